"""Each check of the doctor in a place where it fails for real."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wrong_clock import wrong_clock

from ungan_dist.config import SourceConfig
from ungan_dist.doctor.exposure import check_exposure
from ungan_dist.doctor.finding import Finding
from ungan_dist.doctor.machine import check_disk, check_memory, memory_finding
from ungan_dist.doctor.software import (
    check_ffcv,
    check_packages,
    check_python,
    check_torch,
    check_triton,
    has_nvidia_gpu,
)
from ungan_dist.doctor.storage import check_clock, check_data, check_storage
from ungan_dist.resident import prepare
from ungan_dist.sources import load_source

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(240)


def python(code: str, *before: str, **environment: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [*before, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(finding: Finding, *words: str, level: str = "failure") -> None:
    assert finding.level == level, finding
    assert finding.remedy
    for word in words:
        assert word in finding.message


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Packages that raise when they are imported, and metadata that asks for what there is not."""
    for name in ("torch", "triton", "ffcv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('lib{name}.so is missing')")
    metadata = tmp_path / "ungan_dist-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ungan-dist\nVersion: 9\nRequires-Python: >=3.99\n"
        "Requires-Dist: numpy\nRequires-Dist: a-package-that-is-not-there\n"
    )
    return tmp_path


def test_a_sound_machine_has_no_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ungan_dist", "doctor", "--output", tmp_path / "runs"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if not line.startswith(" ")}
    assert {"memory", "disk", "storage", "clock", "data", "exposure", "python", "packages"} <= set(lines)
    for name, words in {"torch": "torch 2", "triton": "a kernel", "ffcv": ".beton of 1797"}.items():
        if not (name == "ffcv" and "not installed" in lines["ffcv"]):
            assert lines[name].startswith("ok"), done.stdout
            assert words in lines[name]
    assert not (tmp_path / "runs").exists()


def test_everything_broken_is_told_line_by_line(broken: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "ungan_dist", "doctor", "--output", "/dev/null/runs", "--cluster", address],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(broken)},
            cwd=ROOT,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    failed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("failure")}
    assert {"storage", "torch", "ffcv", "python", "packages", "ray"} <= failed
    assert f"no Ray cluster at '{address}'" in done.stdout
    assert done.stdout.count("→") >= len(failed)


def test_an_interpreter_or_a_package_that_is_not_what_is_asked_for(broken: Path) -> None:
    code = "from ungan_dist.doctor.software import *; print(check_python(), check_packages())"
    said = python(code, PYTHONPATH=str(broken))
    assert ">=3.99 is needed" in said
    assert "not installed: a-package-that-is-not-there" in said
    assert check_python().level == check_packages().level == "ok"


def test_libraries_that_do_not_load(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(broken))
    fails(check_torch(), "libtorch.so is missing")
    shutil.rmtree(broken / "torch")
    fails(check_triton(), "libtriton.so is missing", level="warning")
    if check_ffcv_is_installed():
        fails(check_ffcv(), "ffcv", "missing")


def check_ffcv_is_installed() -> bool:
    from importlib import metadata

    try:
        metadata.version("ffcv")
    except metadata.PackageNotFoundError:
        return False
    return True


def test_a_gpu_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_nvidia_gpu():
        pytest.skip("no NVIDIA GPU that could be hidden from torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    fails(check_torch(), "although an NVIDIA GPU is here")


def test_a_folder_that_cannot_hold_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fails(check_storage(tmp_path / "file" / "runs"), "Not a directory")
    code = (
        "import resource; from pathlib import Path; from ungan_dist.doctor.storage import check_storage\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))\n"
        f"print(check_storage(Path({str(tmp_path)!r})))"
    )
    said = python(code)
    assert "level='failure'" in said
    assert "File too large" in said
    assert not list(tmp_path.glob(".doctor-*"))
    assert check_storage(tmp_path / "new" / "runs").level == "ok"
    assert not (tmp_path / "new").exists()


def test_a_full_and_a_read_only_file_system(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        fails(check_storage(tmp_path), "No space left")
        fails(check_disk(tmp_path / "runs"), "0.0 GiB free")
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        fails(check_storage(tmp_path), "Read-only file system")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_no_memory_and_no_disk() -> None:
    code = (
        "import resource; from ungan_dist.doctor.machine import check_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29)); print(check_memory())"
    )
    assert "0.5 GiB free, a worker needs about 1" in python(code)
    fails(check_disk(Path("/proc")), "0.0 GiB free")
    assert check_memory().level != "failure"
    fails(memory_finding("memory", 3 << 30, 8), "8 workers", level="warning")


def test_a_clock_that_is_not_the_storages(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from ungan_dist.doctor.storage import check_clock\n"
        f"print(check_clock(Path({str(tmp_path)!r})))"
    )
    said = python(code, LD_PRELOAD=str(wrong_clock(tmp_path)))
    assert "level='failure'" in said
    assert "by 3600 s" in said or "by 3599 s" in said
    assert check_clock(tmp_path).level == "ok"


def test_data_that_were_altered(tmp_path: Path) -> None:
    prepared = prepare(load_source(SourceConfig(kind="digits")), tmp_path)
    assert [finding.level for finding in check_data(tmp_path)] == ["ok"]
    images = tmp_path / prepared.images
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    (finding,) = check_data(tmp_path)
    fails(finding, "Digits", "altered")
    (tmp_path / prepared.marker).write_text("{")
    (finding,) = check_data(tmp_path)
    fails(finding, "damaged")


@contextlib.contextmanager
def jobs_api(status: int) -> Iterator[str]:
    """A server that answers as a dashboard does: to everybody, or to nobody without a token."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/jobs/" else 404)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            del format, arguments

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_jobs_api_that_stands_open_on_this_machine() -> None:
    with jobs_api(200) as address:
        (finding,) = check_exposure([address])
        fails(finding, address, "without a token", level="warning")
    with jobs_api(401) as address:
        (finding,) = check_exposure([address])
        assert (finding.level, finding.message) == ("ok", f"closed: {address}")
    (finding,) = check_exposure([address])
    assert "no dashboard answers" in finding.message


def test_a_jobs_api_that_stands_open_to_the_network() -> None:
    """In a network namespace of its own, whose one interface has an address that is not loopback."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("cannot make a network namespace")
    code = """
import fcntl, http.server, socket, struct, threading
from ungan_dist.doctor.exposure import check_exposure
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    address = struct.pack("16sH2s4s8s", b"lo", socket.AF_INET, b"", socket.inet_aton("10.9.9.9"), b"")
    fcntl.ioctl(one, 0x8916, address)
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14s", b"lo", 0x41, b""))
class Answers(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
server = http.server.ThreadingHTTPServer(("10.9.9.9", 0), Answers)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(*check_exposure([f"10.9.9.9:{server.server_address[1]}"]))
"""
    said = python(code, "unshare", "-rn")
    assert "level='failure'" in said
    assert "10.9.9.9" in said


def test_a_token_that_others_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    finding, _ = check_exposure([])
    fails(finding, "read by others")
    assert "secret" not in finding.message
    token.chmod(0o600)
    assert [one.level for one in check_exposure([])] == ["ok"]
