"""Submission against a real Ray head with token authentication, over its Jobs API on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from dashboard import metrics_of, panels
from small_audit import SMALL_OPTIONS

from ungan_dist import store

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray head and the way to it."""

    address: str
    metrics_port: int
    environment: dict[str, str]
    token: str
    output: Path


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.socket() for _ in range(count)]
    for one in with_sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
    }
    generate = [SCRIPTS / "ray", "get-auth-token", "--generate"]
    generated = subprocess.run(generate, env=environment, capture_output=True, text=True, check=True)
    token = (home / ".ray/auth_token").read_text()
    assert token in generated.stdout
    log = home / "head.log"
    with contextlib.ExitStack() as stack:
        try:
            ports = stack.enter_context(started_ray(environment, log, token))
        except NotStarted:  # once more, with other ports
            ports = stack.enter_context(started_ray(environment, log, token))
        yield Head(
            address=f"http://127.0.0.1:{ports['dashboard-port']}",
            metrics_port=ports["metrics-export-port"],
            environment=environment,
            token=token,
            output=tmp_path_factory.mktemp("shared"),
        )


class NotStarted(Exception):
    """A head that did not come up: on a busy machine Ray gives its own node 30 s."""


@contextlib.contextmanager
def started_ray(environment: dict[str, str], log: Path, token: str) -> Iterator[dict[str, int]]:
    """A head that serves jobs and has its node; its ports by name."""
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    names += ("metrics-export-port", "ray-client-server-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [SCRIPTS / "ray", "start", "--head", "--block", "--num-cpus=3", "--node-ip-address=127.0.0.1"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    # Ray's sockets lie below it, and their paths may have 107 characters
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as sockets, log.open("w") as written:
        process = subprocess.Popen(
            command, env=environment | {"RAY_TMPDIR": sockets}, stdout=written, stderr=written, start_new_session=True
        )
        try:
            wait_for_jobs_api(f"http://127.0.0.1:{ports['dashboard-port']}", token, process, log)
            yield ports
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def wait_for_jobs_api(address: str, token: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until jobs are served and the node is there, which `ray start` says last."""
    deadline = time.monotonic() + 120
    request = urllib.request.Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotStarted(f"it has ended with {process.returncode}: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:
            if answer.status == 200 and "Ray runtime started" in log.read_text():
                return
        time.sleep(0.5)
    raise NotStarted(f"the Jobs API or the node has not come up in 120 s: {log.read_text()[-2000:]}")


def call(head: Head, *words: str, timeout: float = 150, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """A command of ours as its user calls it; a variable that is none is taken away."""
    whole = {**head.environment, **environment}
    given = {name: value for name, value in whole.items() if value is not None}
    command = [sys.executable, "-m", "ungan_dist", *words, "--address", head.address]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=timeout, check=False)


def submit(head: Head, output: Path, *options: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    # on a GPU host both workers share one
    share = ["--fleet.gpus-per-worker", "0.5" if torch.cuda.is_available() else "0"]
    words = ["submit", "digits", *SMALL_OPTIONS, "--fleet.num-workers", "2", *share, "--output", str(output), *options]
    return call(head, *words, **environment)


def job_id(stdout: str) -> str:
    found = re.search(r"^job ([0-9a-f]{12}-\d+)$", stdout, re.MULTILINE)
    assert found, stdout
    return found.group(1)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A submitted audit that was followed to its end, and every metric that was to be scraped meanwhile."""

    done: subprocess.CompletedProcess[str]
    output: Path
    metrics: set[str]


@pytest.fixture(scope="module")
def audited(head: Head) -> Audited:
    output = head.output / "success"
    found: set[str] = set()
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(2):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{head.metrics_port}/metrics", timeout=5) as answer,
            ):
                found.update(re.findall(r"^(ray_\w+)[ {]", answer.read().decode(), re.MULTILINE))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        done = submit(head, output, "--follow")
    finally:
        ended.set()
        scraper.join()
    return Audited(done=done, output=output, metrics=found)


def test_an_audit_is_submitted_followed_and_ends_with_its_table(head: Head, audited: Audited) -> None:
    output, done = audited.output, audited.done
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    id = job_id(done.stdout)
    assert id.endswith("-1")
    assert f"job {id}: COMPLETE" in done.stdout
    files, size = re.search(r"code: (\d+) files, ([\d,]+) KiB", done.stderr).groups()  # pyright: ignore[reportOptionalMemberAccess]
    assert int(files) > 50
    assert int(size.replace(",", "")) < 2048
    # its own progress lines came through
    stages = [json.loads(line)["stage"] for line in done.stdout.splitlines() if line.startswith('{"stage"')]
    assert {"original, shadows", "unlearning", "scoring"} <= set(stages)
    table = json.loads((output / "run/table.json").read_bytes())
    assert table["status"] == "COMPLETE"
    assert [row["method"] for row in table["rows"]] == ["original", "retrain", "ungan"]
    asked = call(head, "status", id)
    assert asked.returncode == 0, asked.stderr
    assert str(output / "run") in asked.stdout
    assert head.token not in done.stdout + done.stderr + asked.stdout + asked.stderr


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_metric_of_the_dashboard_is_there_to_be_scraped(audited: Audited, panel: dict[str, Any]) -> None:
    names = metrics_of(panel)
    assert names
    if panel["title"].startswith("GPU: ") and not torch.cuda.is_available():
        pytest.skip("no GPU on this machine: nothing measures one")
    assert names <= audited.metrics, sorted(names - audited.metrics)


def test_a_job_that_its_cluster_refuses_is_no_success_and_says_why(head: Head) -> None:
    options = ["--source.kind", "parquet", "--source.path", "/nowhere/on/the/cluster"]
    done = submit(head, head.output / "refused", "--follow", *options)
    assert done.returncode == 2, done.stdout
    assert f"job {job_id(done.stdout)}: REFUSED" in done.stdout
    assert "/nowhere/on/the/cluster" in done.stdout


def test_a_stopped_job_keeps_what_it_has_and_its_resubmission_continues(head: Head) -> None:
    output = head.output / "stopped"
    options = ["--shadows.num-models", "16", "--train.epochs", "120"]
    first = submit(head, output, *options)
    assert first.returncode == 0, first.stderr
    id = job_id(first.stdout)

    duplicate = submit(head, output, *options)
    assert duplicate.returncode == 2
    assert re.search(f"job {id} is (RUNNING|PENDING)", duplicate.stderr), duplicate.stderr

    deadline = time.monotonic() + 60
    while not list(output.glob("shadows/*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped = call(head, "cancel", id)
    assert stopped.returncode == 3, stopped.stderr
    assert f"job {id}: PARTIAL" in stopped.stdout
    before = {path: path.stat().st_mtime_ns for path in output.glob("shadows/*.npy")}
    assert 0 < len(before) < 8
    assert store.read_json(output / "run/status.json")["state"] == "PARTIAL"

    again = submit(head, output, *options, "--follow")
    assert again.returncode == 0, again.stdout[-3000:]
    assert job_id(again.stdout) == f"{id[:-2]}-2"
    assert json.loads((output / "run/table.json").read_bytes())["sizes"]["shadows"] == 16
    assert before == {path: path.stat().st_mtime_ns for path in before}, "what was committed is not computed again"
    assert call(head, "status", id).returncode == 3, "the first attempt stays what it was"


def test_a_wrong_and_a_missing_token_are_refused(head: Head, tmp_path: Path) -> None:
    wrong = submit(head, head.output / "never", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert wrong.returncode == 2
    assert "a wrong token" in wrong.stderr
    missing = submit(head, head.output / "never", HOME=str(tmp_path), RAY_AUTH_MODE=None)
    assert missing.returncode == 2
    assert "no token" in missing.stderr
    for text in (wrong.stderr, missing.stderr):
        assert "ray get-auth-token" in text
        assert "Traceback" not in text
    assert call(head, "cancel", "0123456789ab-1", RAY_AUTH_TOKEN="0" * 64).returncode == 2
    # and Ray itself refuses whoever comes without us
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.address}/api/jobs/", timeout=10)
    assert not (head.output / "never").exists()


def test_a_cluster_without_the_resources_is_told_before_anything_is_handed_in(head: Head) -> None:
    gpus = submit(head, head.output / "never", "--fleet.gpus-per-worker", "64")
    assert gpus.returncode == 2
    assert "64 GPUs a worker" in gpus.stderr
    assert re.search(r"its 1 nodes have: 2 CPUs, \d+ GPUs", gpus.stderr)
    many = submit(head, head.output / "never", "--fleet.num-workers", "64")
    assert many.returncode == 2
    assert "room for 2 workers; asked are 64" in many.stderr
    assert "job " not in gpus.stdout + many.stdout
    assert not (head.output / "never").exists()


def test_an_unknown_job_is_named(head: Head) -> None:
    for command in ("status", "cancel"):
        done = call(head, command, "0123456789ab-7")
        assert done.returncode == 2
        assert "knows no job '0123456789ab-7'" in done.stderr
