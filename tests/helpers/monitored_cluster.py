"""A cluster of hosts whose head serves Ray's metrics, and Debian's Prometheus on that host with the shipped files."""

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
from dashboard import DASHBOARD
from host_cluster import DRIVER, HEAD, PORT, TOKEN, HostCluster, write_token
from hosts import SHARED
from small_root import INSIDE, make_small_root

KILL = "kill"
"""File on the shared disk; while it exists, every unit's process is killed."""
SETTINGS = {"RAY_TMPDIR": "/tmp", "PAUSE": "6", "KILL": str(SHARED / KILL)}
RULES = DASHBOARD.with_name("alerts.yaml")
SILENCE_SECONDS = 40
"""Seconds without progress that raise an alert here, in place of half an hour; the other rules are as shipped."""
SERVER = 9090
_QUERY = f"""
import sys, urllib.parse, urllib.request
words = urllib.parse.urlencode({{"query": sys.argv[1]}})
print(urllib.request.urlopen(f"http://127.0.0.1:{SERVER}/api/v1/query?{{words}}", timeout=10).read().decode())
"""


class MonitoredCluster(HostCluster):
    """A cluster with a dashboard on the head, which lists the hosts in the file that the manifest names.

    The host ``left`` has a small disk, and so have all hosts together.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ray_variables=SETTINGS, shared="300m")
        self._servers: list[subprocess.Popen[bytes]] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        for server in self._servers:
            server.wait()

    def command(self, output: str) -> str:
        """Return the command of an audit that takes minutes, and gives up a unit after six lost workers."""
        slow = "--train.function slow_training:fit --fleet.max-system-failures 6"
        longer = super().command(output).replace("--shadows.num-models 24", "--shadows.num-models 120")
        return re.sub(r"--train.epochs \d+", slow, longer)

    def start(self) -> None:
        """Start Ray on one host after another: on a busy machine Ray gives up a host that takes 30 s."""
        for name in (HEAD, DRIVER, *self.workers):
            self.start_ray(name)

    def start_ray(self, name: str) -> None:
        """Start Ray on one host, with its files in the default folder, which is the host's own."""
        host = self.network[name]
        write_token(host, TOKEN)
        shutil.copy(Path(__file__).with_name("slow_training.py"), host.home)
        head = f"--head --port={PORT}" if name == HEAD else f"--address={self.address}"
        inside = ""
        if name == "left":
            make_small_root(host)
            inside = f"{INSIDE} env --chdir={shlex.quote('/mnt/home')} "
        else:
            host.run("mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray")
        host.run(
            f"{inside}ray start {head} --node-ip-address={host.address} --num-cpus={int(name in self.workers)} "
            "--object-store-memory=100000000 --disable-usage-stats",
            RAY_AUTH_MODE="token",
            **self._variables,
        )

    def start_prometheus(self) -> None:
        """Start Prometheus on the head's host with the shipped files, and wait until it answers."""
        folder = self.folder / "prometheus"
        folder.mkdir()
        shutil.copy(RULES.with_name("prometheus.yaml"), folder)
        rules = RULES.read_text()
        assert rules.count("> 1800") == 1
        (folder / RULES.name).write_text(rules.replace("> 1800", f"> {SILENCE_SECONDS}"))
        command = (
            f"exec prometheus --config.file={shlex.quote(str(folder))}/prometheus.yaml "
            f"--web.listen-address=127.0.0.1:{SERVER} --storage.tsdb.path=/mnt/tmp/prometheus"
        )
        self._servers.append(self.network[HEAD].start(command, self.folder / "prometheus.log"))
        self.wait_for(lambda: bool(self.query("vector(1)")), "an answer of Prometheus", timeout=120)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query by Prometheus' HTTP API; none while it does not answer."""
        done = self.network[HEAD].run(f"python -c {shlex.quote(_QUERY)} {shlex.quote(expression)}", check=False)
        if done.returncode:
            return []
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def list_firing(self) -> dict[str, dict[str, str]]:
        """Return the labels of the alerts that fire, by name."""
        series = self.query('ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"]: one["metric"] for one in series}

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout: float) -> float:
        """Wait until a condition holds, and return the seconds that it took."""
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() < begun + timeout, f"not within {timeout:.0f} s: {what}"
            time.sleep(1)
        return time.monotonic() - begun


def require_prometheus() -> None:
    """Skip the test, with the reason, where Prometheus is missing."""
    if missing := [name for name in ("prometheus", "promtool") if not shutil.which(name)]:
        pytest.skip(f"missing programs: {', '.join(missing)}. Install them: make services")
