"""Object storage for tests: filesystems that fail at a chosen call, and moto's S3 server in its own process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import fs

from ungan_dist.runs.storage.mirror import Mirror


def mirror_of(filesystem: fs.FileSystem, root: str, folder: Path) -> Mirror:
    return Mirror(url="test://storage", filesystem=filesystem, root=root, folder=folder)


def open_storage(kind: str, folder: Path) -> tuple[fs.FileSystem, str]:
    """Return a filesystem and the root to use on it: a local folder, or memory."""
    return (fs.LocalFileSystem(), str(folder / "there")) if kind == "local" else (fs._MockFileSystem(), "bucket")


class Watched(fs.FileSystemHandler):
    """A filesystem that calls a callback before every change; the callback raises or kills."""

    def __init__(self, inner: fs.FileSystem, before: Callable[[str, str], None]) -> None:
        self.inner, self.before = inner, before

    def get_type_name(self):
        return self.inner.type_name

    def normalize_path(self, path):
        return self.inner.normalize_path(path)

    def get_file_info(self, paths):
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector):
        return self.inner.get_file_info(selector)

    def create_dir(self, path, recursive):
        self.before("create_dir", path)
        self.inner.create_dir(path, recursive=recursive)

    def delete_file(self, path):
        self.inner.delete_file(path)

    def move(self, source, destination):
        self.before("move", destination)
        self.inner.move(source, destination)

    def open_input_stream(self, path):
        return self.inner.open_input_stream(path)

    def open_output_stream(self, path, metadata):
        self.before("open", path)
        return pyarrow.PythonFile(Stream(self, path), mode="w")

    def _unused(self, *_: Any) -> Any:
        raise NotImplementedError

    delete_dir = delete_dir_contents = delete_root_dir_contents = copy_file = _unused
    open_input_file = open_append_stream = _unused


class CountedRequests(Watched):
    """Object storage that notes the requests that S3 would get."""

    def __init__(self, inner: fs.FileSystem, requests: list[str]) -> None:
        super().__init__(inner, lambda act, path: requests.append("write") if act == "open" else None)
        self._requests = requests

    def get_type_name(self) -> str:
        return "s3"

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        self._requests += ["examine"] * len(paths)
        return self.inner.get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        found = self.inner.get_file_info(selector)
        self._requests += ["list"] * max(1, -(-sum(info.is_file for info in found) // PAGE))
        return found

    def open_input_stream(self, path: str) -> Any:
        self._requests.append("read")
        return self.inner.open_input_stream(path)

    def open_output_stream(self, path: str, metadata: dict[str, str]) -> Any:
        self.inner.create_dir(path.rpartition("/")[0], recursive=True)  # object storage has no folders
        return super().open_output_stream(path, metadata)


PAGE = 1000
"""Objects that S3 lists with one request."""


class Stream:
    """Stream of a watched filesystem, written in two halves."""

    def __init__(self, watched: Watched, path: str) -> None:
        self._before, self._path = watched.before, path
        self._inner = watched.inner.open_output_stream(path)

    @property
    def closed(self) -> bool:
        return self._inner.closed

    def write(self, content: Any) -> int:
        content = bytes(content)
        half = len(content) // 2
        self._inner.write(content[:half])
        self._inner.flush()
        self._before("write", self._path)
        self._inner.write(content[half:])
        return len(content)

    def flush(self) -> None:
        self._inner.flush()

    def close(self) -> None:
        self._inner.close()


class S3Server:
    """Run moto's S3 server on loopback; its content is lost when it stops."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", "import moto.server; moto.server.main()", "-H", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*command, "-p", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "the server did not start"
                time.sleep(0.1)
            else:
                break
        self.filesystem = fs.S3FileSystem(
            endpoint_override=f"http://127.0.0.1:{self.port}", region="us-east-1", allow_bucket_creation=True
        )
        self.filesystem.create_dir("bucket")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def url(self, path: str) -> str:
        return f"s3://{path}?endpoint_override=http://127.0.0.1:{self.port}&scheme=http&region=us-east-1"
