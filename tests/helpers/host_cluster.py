"""A Ray cluster with tokens on hosts of its own: a head, a driver's host, and workers of one CPU each."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType

from commits import Commits, watching
from hosts import SHARED, Host, Network

HEAD, DRIVER = "head", "driver"
PORT = 6379
TOKEN = "0123456789abcdef0123456789abcdef"
# Ray's own limits are five times as long
HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}
STARTING = {
    "RAY_raylet_start_wait_time_s": "120",  # on a busy machine, 30 s are too few
    "RAY_worker_niceness": "0",  # beside other work, Ray's 15 leaves a worker no CPU
    **HEALTH,
}
"""Settings of `ray start` on every host."""
AUDIT = (
    "ungan-dist run digits --split.train 200 --split.shadow-pool 200 --split.unseen 50 --model.width 4 "
    "--train.epochs 50 --shadows.num-models 24 --shadows.unit-size 2 --attack.num-resamples 100 "
    "--methods original,retrain --num-seeds 2 --execution.run-name run --execution.progress json"
)
"""An audit of 16 units, about 1.5 s each."""


USE_TLS = "[ ! -f ~/.ray/tls/environment ] || . ~/.ray/tls/environment; "
"""What a shell does first where the host may have certificates."""

OBJECT = "an object of the store"
_SEND_OBJECT = f"""
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
make = ray.remote(num_cpus=1)(lambda: b"{OBJECT}" * 400_000)
assert len(ray.get(make.remote())) == {len(OBJECT)} * 400_000
"""


class HostCluster:
    """The hosts, and Ray on them."""

    def __init__(
        self,
        folder: Path,
        workers: tuple[str, ...] = ("left", "right"),
        *,
        others: tuple[str, ...] = (),
        ray_variables: Mapping[str, str] = MappingProxyType({}),
        serves_jobs: bool = False,
        shared: str = "",
    ) -> None:
        """Describe a cluster.

        Args:
            folder: Home folders, the shared disk and messages.
            workers: Hosts with a CPU for units.
            others: Hosts without Ray.
            ray_variables: Environment of Ray's processes, beside the cluster's own.
            serves_jobs: Whether the head's port 8265 accepts jobs.
            shared: Size of the shared disk; empty for a folder on this machine's own.
        """
        self._variables, self._serves_jobs = {**STARTING, **ray_variables}, serves_jobs
        self.folder, self.workers = folder, workers
        self.network = Network(folder, [HEAD, DRIVER, *workers, *others], shared=shared)
        self.address = ""
        self.token = TOKEN

    def __enter__(self) -> HostCluster:
        self.network.__enter__()
        try:
            self.address = f"{self.network[HEAD].address}:{PORT}"
            self.start()
        except BaseException:
            self.network.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.network.__exit__(kind, error, traceback)

    def start(self) -> None:
        """Start Ray on every host; where it runs, it is stopped first."""
        self.start_ray(HEAD)
        with ThreadPoolExecutor() as starting:
            list(starting.map(self.start_ray, (DRIVER, *self.workers)))

    def boot(self) -> None:
        """Cut the power of every host, boot it, and start Ray."""
        names = (HEAD, DRIVER, *self.workers)
        for name in names:
            self.network[name].cut_power()
        for name in names:
            self.network.boot(name)
        self.start()

    def start_ray(self, name: str) -> None:
        """Start Ray on one host, or start it again, with the cluster's token in the user's home folder."""
        host = self.network[name]
        write_token(host, self.token)
        jobs = f"--dashboard-host={host.address}" if self._serves_jobs else "--include-dashboard=false"
        head = f"--head --port={PORT} {jobs}" if name == HEAD else f"--address={self.address}"
        cpus = int(name in self.workers)
        host.run(
            f"{USE_TLS}ray stop --force > /dev/null; ray start {head} --node-ip-address={host.address} "
            f"--num-cpus={cpus} --object-store-memory=100000000 --disable-usage-stats",
            RAY_AUTH_MODE="token",
            **self._variables,
        )

    def command(self, output: str) -> str:
        """Return the command of the audit, on the driver's host."""
        return f"{USE_TLS}{AUDIT} --cluster {self.address} --output {SHARED / output}"

    def start_audit(self, output: str) -> subprocess.Popen[bytes]:
        """Start the audit; its messages are in ``log_of(output)``."""
        return self.network[DRIVER].start(self.command(output), self.log_of(output))

    def watching(self, output: str) -> AbstractContextManager[Commits | None]:
        """Watch the results of a run's shadow models within the context; None where nobody can."""
        return watching(self.network.shared / output / "shadows")

    def signal_workers(self, signal: str, *names: str) -> None:
        """Send a signal to every process that computes units, on these hosts or on all."""
        for name in names or self.workers:
            self.network[name].run(f"kill -{signal} $(pgrep -f ^ray::Worker)")

    def send_object(self) -> None:
        """Send an object of Ray's store from a worker's host to the driver's."""
        self.network[DRIVER].run(f"{USE_TLS}python -c '{_SEND_OBJECT}' {self.address}", RAY_AUTH_MODE="token")

    def log_of(self, output: str) -> Path:
        """Return the file with an audit's messages."""
        return self.folder / f"{output}.log"

    def list_results(self, output: str) -> dict[str, bytes]:
        """Read every array of a run's output: log-odds of shadow models and targets, and membership."""
        folder = self.network.shared / output
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npy"))}

    def wait_for_shadows(
        self, output: str, count: int, audit: subprocess.Popen[bytes], *, timeout: float = 180
    ) -> None:
        """Wait until results of shadow models are committed."""
        deadline = time.monotonic() + timeout
        while len(list((self.network.shared / output / "shadows").glob("*.json"))) < count:
            assert audit.poll() is None, self.log_of(output).read_text()
            assert time.monotonic() < deadline, self.log_of(output).read_text()
            time.sleep(0.05)


def write_token(host: Host, token: str) -> None:
    """Write the token into the user's home folder of a host."""
    host.run(f"umask 077; mkdir -p .ray; printf %s {token} > .ray/auth_token")
