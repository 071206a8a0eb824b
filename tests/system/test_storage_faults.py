"""A run on object storage whose server fails now and then."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import storage_proxy
from in_process import run_command
from object_storage import S3Server
from small_audit import SMALL_OPTIONS
from storage_proxy import list_requests, set_fault

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_figures")]


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, Path, str]]:
    """A server of S3, the folder of a proxy before it, and the URL of an output through the proxy."""
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "testing"), ("EC2_METADATA_DISABLED", "1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server, folder = S3Server(), tmp_path / "proxy"
    folder.mkdir()
    command = [sys.executable, storage_proxy.__file__, "127.0.0.1", "0", str(server.port), str(folder)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while not (folder / "port").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        port = (folder / "port").read_text()
        yield server, folder, f"s3://bucket/runs?endpoint_override=http://127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        process.kill()
        process.wait()
        server.stop()


def test_a_storage_that_fails_now_and_then_changes_no_bit(
    proxy: tuple[S3Server, Path, str], tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command's handler would outlive the test
    server, folder, url = proxy
    run = ["run", "digits", *SMALL_OPTIONS, "--output", url, "--execution.progress", "none"]
    set_fault(folder, "503", 0.3)
    done = run_command(*run, "--execution.cache", str(tmp_path / "cache"))
    assert done.returncode in (0, 3), done.stderr
    # what was computed is kept, and a storage that answers again completes it
    set_fault(folder)
    assert not done.returncode or run_command(*run, "--execution.cache", str(tmp_path / "cache")).returncode == 0
    assert [line for line in list_requests(folder) if line.endswith(" 503")]
    with server.filesystem.open_input_stream("bucket/runs/run/table.json") as stream:
        assert stream.read() == (finished_run / "run/table.json").read_bytes()
