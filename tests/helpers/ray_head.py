"""A Ray head with a token, on free ports of loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(sysconfig.get_path("scripts"))


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head, its addresses and its folder of sessions."""

    address: str
    port: int
    agent_port: int
    metrics_port: int
    environment: dict[str, str]
    token: str
    output: Path
    sessions: Path


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.socket() for _ in range(count)]
    for one in with_sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


class NotStarted(Exception):
    """The head did not start; on a busy machine Ray waits 30 s for its own node."""


@contextlib.contextmanager
def start_ray(environment: dict[str, str], log: Path, token: str) -> Iterator[tuple[dict[str, int], Path]]:
    """Start a head, wait until it serves jobs, and yield its ports by name, and its folder of sessions."""
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    names += ("metrics-export-port", "ray-client-server-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [SCRIPTS / "ray", "start", "--head", "--block", "--num-cpus=3", "--node-ip-address=127.0.0.1"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    # the paths of Ray's sockets below it are limited to 107 characters
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as sockets, log.open("w") as written:
        process = subprocess.Popen(
            command, env=environment | {"RAY_TMPDIR": sockets}, stdout=written, stderr=written, start_new_session=True
        )
        try:
            wait_for_jobs_api(f"http://127.0.0.1:{ports['dashboard-port']}", token, process, log)
            yield ports, Path(sockets)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def wait_for_jobs_api(address: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the head serves jobs and its node is ready, which `ray start` prints last."""
    deadline = time.monotonic() + 120
    request = urllib.request.Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStarted(f"it exited with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
            if answer.status == 200 and "Ray runtime started" in log.read_text():
                return
        time.sleep(0.5)
    raise NotStarted(f"the Jobs API or the node did not start within 120 s: {log.read_text()[-2000:]}")
