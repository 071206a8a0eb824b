"""Audits on hosts that share no disk: their output is in S3 storage on a host of its own, behind a faulty proxy."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import storage_proxy
from commits import Commits
from host_cluster import DRIVER, HostCluster
from host_faults import FAULTS, Inject
from hosts import SHARED
from storage_proxy import list_requests, set_fault

STORE = "store"
SERVER_PORT, PROXY_PORT = 5000, 9000
ACCESS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "1"}
_OPEN = "from pyarrow import fs; s3 = fs.S3FileSystem(endpoint_override='http://127.0.0.1:{port}', region='us-east-1'"
_CREATE = _OPEN + ", allow_bucket_creation=True); s3.create_dir('bucket')"
_COPY = _OPEN + "); fs.copy_files('bucket/{output}', '{folder}', source_filesystem=s3)"


class StoredCluster(HostCluster):
    """A cluster beside a host with S3 storage; the shared disk has the proxy's files alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, others=(STORE,), ray_variables=ACCESS)
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> StoredCluster:
        super().__enter__()
        self.proxy.mkdir()
        store, log = self.network[STORE], self.folder / "store.log"
        server = f"python -c 'import moto.server; moto.server.main()' -H 127.0.0.1 -p {SERVER_PORT}"
        there = SHARED / self.proxy.name
        proxy = f"python {storage_proxy.__file__} {store.address} {PROXY_PORT} {SERVER_PORT} {there}"
        self._servers = [store.start(command, log) for command in (server, proxy)]
        create = f'until python -c "{_CREATE.format(port=SERVER_PORT)}" 2> /dev/null; do sleep 1; done'
        store.run(create, **ACCESS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        for server in self._servers:
            server.kill()
            server.wait()

    @property
    def proxy(self) -> Path:
        """Folder by which the proxy is told its fault."""
        return self.network.shared / "proxy"

    def command(self, output: str) -> str:
        """Return the command of the audit, with its output in the storage."""
        endpoint = f"endpoint_override=http://{self.network[STORE].address}:{PROXY_PORT}"
        url = f"s3://bucket/{output}?{endpoint}&scheme=http&region=us-east-1"
        return super().command(output).replace(f"--output {SHARED / output}", f"--output '{url}'")

    def start_audit(self, output: str) -> subprocess.Popen[bytes]:
        """Start the audit; its messages are in ``log_of(output)``."""
        return self.network[DRIVER].start(self.command(output), self.log_of(output), **ACCESS)

    def watching(self, output: str) -> AbstractContextManager[Commits | None]:
        """Watch nothing: results are in the storage."""
        return contextlib.nullcontext()

    def list_results(self, output: str) -> dict[str, bytes]:
        """Read every array of a run's output from the storage."""
        copied = self.network.shared / f"copy-{output}"
        copied.mkdir(exist_ok=True)
        copy = _COPY.format(port=SERVER_PORT, output=output, folder=SHARED / copied.name)
        self.network[STORE].run(f'python -c "{copy}"', **ACCESS)
        return super().list_results(copied.name)

    def wait_for_shadows(
        self, output: str, count: int, audit: subprocess.Popen[bytes], *, timeout: float = 180
    ) -> None:
        """Wait until results of shadow models are in the storage."""
        deadline = time.monotonic() + timeout

        def is_result(line: str) -> bool:
            method, path, status = line.split(" ", 2)
            return method == "PUT" and f"/{output}/shadows/" in path and ".json" in path and status == "200"

        while sum(map(is_result, list_requests(self.proxy))) < count:
            assert audit.poll() is None, self.log_of(output).read_text()
            assert time.monotonic() < deadline, self.log_of(output).read_text()
            time.sleep(0.05)


def _answer(kind: str, *, share: float = 1.0, seconds: float = 0.0) -> Inject:
    """Let the proxy fail for some seconds, or until the audit has ended if they are 0."""

    def inject(cluster: HostCluster, output: str) -> Iterator[None]:
        assert isinstance(cluster, StoredCluster)
        set_fault(cluster.proxy, kind, share)
        if seconds:
            time.sleep(seconds)
            set_fault(cluster.proxy)
        yield
        set_fault(cluster.proxy)

    return inject


def _unplug_storage(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.network.unplug(STORE)
    time.sleep(30)
    cluster.network.plug_in(STORE)
    yield


STORAGE_FAULTS: dict[str, Inject] = {
    "every tenth request is answered with 500": _answer("500", share=0.1),
    "every request is answered with 503, slow down, for 20 s": _answer("503", seconds=20),
    "every tenth request ends in a reset, before or after it has its effect": _answer("reset", share=0.1),
    "every request of 5 s hangs for a minute": _answer("hang", seconds=5),
    "the cable of the storage is pulled for 30 s": _unplug_storage,
    "the power of a worker's host is cut": FAULTS["the power of a worker's host is cut"],
    "the power of the head's host is cut until the audit has ended": FAULTS[
        "the power of the head's host is cut until the audit has ended"
    ],
}
"""Faults of an audit on object storage."""
