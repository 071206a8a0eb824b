"""A cluster of hosts whose head serves Ray's metrics, and Debian's Prometheus on that host."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from host_cluster import DRIVER, HEAD, HEALTH, PORT, TOKEN, HostCluster, write_token

METRICS = {"RAY_TMPDIR": "/tmp", "PAUSE": "6"}
_QUERY = """
import sys, urllib.parse, urllib.request
words = urllib.parse.urlencode({"query": sys.argv[2]})
print(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v1/query?{words}", timeout=10).read().decode())
"""


class MonitoredCluster(HostCluster):
    """A cluster with a dashboard on the head, which lists the hosts in the file that the manifest names."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._servers: list[subprocess.Popen[bytes]] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        for server in self._servers:
            server.wait()

    def command(self, output: str) -> str:
        """Return the command of an audit that takes minutes, because Prometheus' rates need several scrapes."""
        return re.sub(r"--train.epochs \d+", "--train.function slow_training:fit", super().command(output))

    def start(self) -> None:
        """Start Ray on one host after another: on a busy machine Ray gives up a host that takes 30 s."""
        for name in (HEAD, DRIVER, *self.workers):
            self.start_ray(name)

    def start_ray(self, name: str, **variables: str) -> None:
        """Start Ray on one host, with its files in the default folder, which is the host's own."""
        host = self.network[name]
        write_token(host, TOKEN)
        shutil.copy(Path(__file__).with_name("slow_training.py"), host.home)
        head = f"--head --port={PORT}" if name == HEAD else f"--address={self.address}"
        cpus = int(name in self.workers)
        host.run(
            "mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && "
            f"ray start {head} --node-ip-address={host.address} --num-cpus={cpus} "
            "--object-store-memory=100000000 --disable-usage-stats",
            RAY_AUTH_MODE="token",
            **HEALTH,
            **METRICS,
            **variables,
        )

    def start_prometheus(self, config: str, port: int) -> None:
        """Start Prometheus on the head's host, and wait until it answers."""
        command = (
            f"exec prometheus --config.file={shlex.quote(config)} --web.listen-address=127.0.0.1:{port} "
            f"--storage.tsdb.path=/mnt/tmp/prometheus-{port}"
        )
        self._servers.append(self.network[HEAD].start(command, self.folder / f"prometheus-{port}.log"))
        self.wait_for(lambda: bool(self.query("vector(1)", port)), "an answer of Prometheus", timeout=30)

    def query(self, expression: str, port: int) -> list[dict[str, Any]]:
        """Return the series of an instant query by Prometheus' HTTP API; none while it does not answer."""
        done = self.network[HEAD].run(f"python -c {shlex.quote(_QUERY)} {port} {shlex.quote(expression)}", check=False)
        if done.returncode:
            return []
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout: float) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
            time.sleep(1)


def require_prometheus() -> None:
    """Skip the test, with the reason, where Prometheus is missing."""
    if missing := [name for name in ("prometheus", "promtool") if not shutil.which(name)]:
        pytest.skip(f"missing programs: {', '.join(missing)}. Install them: make services")
