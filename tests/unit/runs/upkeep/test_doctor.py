"""The doctor on this machine: every check is seen to succeed and to fail, on things that are truly so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from object_storage import S3Server
from pyarrow import fs

from ungan_dist import cli, store
from ungan_dist.runs.upkeep import doctor
from ungan_dist.runs.upkeep.doctor import GIB, Finding

ROOT = Path(__file__).parents[4]


def says(finding: Finding, state: str, *words: str) -> None:
    assert finding.state == state, finding
    assert bool(finding.remedy) == (state != "ok")
    for word in words:
        assert word in finding.detail


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def prepared(output: Path) -> Path:
    """Prepared data as a run leaves them; returns their folder."""
    id = "0123456789abcdef" * 4
    place = f"data/{id[:16]}"
    files = {f"{place}/images.npy": store.array_bytes(np.arange(12)), f"{place}/labels.npy": b"labels"}
    store.commit(output, f"{place}/manifest.json", id=id, files=files)
    return output / place


@pytest.mark.process
def test_the_command_says_a_line_a_check_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ffcv.libffcv", reason="FFCV is not installed")
    output = tmp_path / "runs"
    code = command("--output", output)
    lines = capfd.readouterr().out.splitlines()
    names = ["python", "clock", "output folder", "disk", "memory", "prepared data", "torch", "triton", "ffcv"]
    assert [line[9:].split(":")[0] for line in lines] == names
    # disk and memory are this machine's affair
    assert all(line.startswith("ok ") for line in lines if line[9:].split(":")[0] not in ("disk", "memory")), lines
    assert code == any(line.startswith("failure") for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_failure_is_the_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str], stub: Path) -> None:
    for name in ("torch", "triton", "ffcv"):
        (stub / f"{name}.py").write_text("raise ImportError('broken\\nin two lines')")
    assert command("--output", tmp_path) == 1
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 9
    assert [line.split()[1] for line in lines if line.startswith("failure")] == ["torch:", "triton:", "ffcv:"]


@pytest.mark.parametrize("words", [["--cluster", "ray://here:1"], ["--cluster", ""], ["--clutter"], ["digits"]])
def test_wrong_options_are_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 2
    assert capfd.readouterr().err.startswith("ungan-dist: ")


def test_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, doctor.MINIMUM_PYTHON))
    says(doctor.check_python(), "ok")
    minor = sys.version_info.minor
    says(doctor.check_python((3, minor)), "ok")
    says(doctor.check_python((3, minor + 1)), "failure", f"3.{minor + 1}")


def test_the_output_folder(tmp_path: Path, small_disk: Path) -> None:
    says(doctor.check_output(tmp_path), "ok", "can be written")
    says(doctor.check_output(tmp_path / "new" / "runs"), "ok", "will be made")
    (tmp_path / "file").write_text("in the way")
    says(doctor.check_output(tmp_path / "file"), "failure", "Not a directory")
    says(doctor.check_output(tmp_path / "file" / "runs"), "failure", "Not a directory")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    says(doctor.check_output(tmp_path / "link"), "failure", "link")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    says(doctor.check_output(small_disk / "runs"), "failure", "Read-only", str(small_disk))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "small"]


def test_a_full_disk(small_disk: Path) -> None:
    says(doctor.check_disk(small_disk / "runs"), "failure", "below 1 GiB", str(small_disk))
    says(doctor.check_disk(small_disk, needed=1 << 12, wanted=1 << 20), "warning")
    says(doctor.check_disk(small_disk, needed=1 << 12, wanted=1 << 13), "ok")
    (small_disk / "full").write_bytes(bytes(64 << 10))
    says(doctor.check_output(small_disk), "failure", "No space left")


def test_memory_under_a_limit() -> None:
    says(doctor.check_memory(needed=1, wanted=2), "ok", "available")
    code = "from ungan_dist.runs.upkeep.doctor import check_memory; print(check_memory())"
    limited = ["bash", "-c", f"ulimit -v {GIB // 1024}; exec {sys.executable} -c '{code}'"]
    line = subprocess.run(limited, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout
    assert line.startswith("failure  memory: ")
    assert "ulimit -v" in line


def test_prepared_data(tmp_path: Path) -> None:
    says(doctor.check_data(tmp_path), "ok", "none yet")
    folder = prepared(tmp_path)
    says(doctor.check_data(tmp_path), "ok", "1 data sets intact")
    images, manifest = folder / "images.npy", folder / "manifest.json"
    content = images.read_bytes()
    images.write_bytes(content[:-1] + b"\x01")
    says(doctor.check_data(tmp_path), "failure", str(folder))
    images.unlink()
    says(doctor.check_data(tmp_path), "failure", str(folder))
    images.write_bytes(content)
    says(doctor.check_data(tmp_path), "ok")
    id = "0123456789abcdef" * 4 + "-layout"
    store.commit(tmp_path, f"data/{folder.name}/beton.json", id=id, files={f"data/{folder.name}/data.beton": b"beton"})
    says(doctor.check_data(tmp_path), "ok", "1 data sets intact")
    (folder / "data.beton").write_bytes(b"other")
    says(doctor.check_data(tmp_path), "failure", "beton.json")
    (folder / "data.beton").write_bytes(b"beton")
    # data of another hash under this name
    folder.rename(folder.with_name("f" * 16))
    says(doctor.check_data(tmp_path), "failure", "f" * 16)
    folder.with_name("f" * 16).rename(folder)
    for text in ("{", "[]", "{}"):
        manifest.write_text(text)
        says(doctor.check_data(tmp_path), "failure", str(folder))


def test_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(doctor.check_clock(tmp_path), "ok", "output folder")
    witness = tmp_path / "witness"
    witness.touch()
    says(doctor.check_clock(tmp_path, witness=witness), "ok")
    os.utime(witness, (4e9, 4e9))
    says(doctor.check_clock(tmp_path, witness=witness), "failure", "is before")
    says(doctor.check_clock(witness), "ok")
    ours = time.time
    for seconds in (-60, 60):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: ours() + seconds)
        says(doctor.check_clock(tmp_path), "warning", "60 s", "file system")


@pytest.fixture
def stub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules come before those that are installed."""
    folder = tmp_path_factory.mktemp("stub")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


CHECKS = {"torch": doctor.check_torch, "triton": doctor.check_triton, "ffcv": doctor.check_ffcv}


@pytest.mark.parametrize(
    ("name", "content", "state", "word"),
    [
        ("torch", "raise ImportError('libtorch.so: undefined symbol')", "failure", "undefined symbol"),
        ("torch", "import os; os.abort()", "failure", "signal 6"),
        ("torch", "raise ModuleNotFoundError(name='torch')", "failure", "not installed"),
        ("triton", "raise ImportError('libtriton.so: undefined symbol')", "failure", "Triton"),
        ("ffcv", "raise ImportError('libopencv.so: cannot open')", "failure", "libopencv"),
        ("ffcv", "raise ModuleNotFoundError(name='ffcv')", "warning", "not installed"),
        # a part of it that is missing is not FFCV missing
        ("ffcv", "raise ModuleNotFoundError('no numba', name='numba')", "failure", "numba"),
    ],
)
@pytest.mark.process
def test_a_broken_library(stub: Path, name: str, content: str, state: str, word: str) -> None:
    (stub / f"{name}.py").write_text(content)
    says(CHECKS[name](), state, word)


@pytest.mark.process
def test_a_torch_that_computes_otherwise(stub: Path) -> None:
    (stub / "sitecustomize.py").write_text("import torch\ntorch.Tensor.__matmul__ = lambda x, y: 2 * x.mm(y)\n")
    says(doctor.check_torch(), "failure", "gradient")


@pytest.mark.process
def test_a_library_that_hangs(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stub / "torch.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "PATIENCE_S", 0.5)
    for name in ("triton", "ffcv"):
        (stub / f"{name}.py").write_text("import time; time.sleep(600)")
    # slow is not broken
    for check in CHECKS.values():
        found = check()
        says(found, "warning", "no answer", "load average")
        assert found.remedy == "try again when the machine is idle"


@pytest.mark.parametrize(("load", "at_once"), [(0.0, 3), (1e6, 1)])
def test_on_a_busy_machine_libraries_are_tried_one_after_another(
    load: float, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    running, most, guard = [0], [0], threading.Lock()

    def slow() -> Finding:
        with guard:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.3)
        with guard:
            running[0] -= 1
        return Finding(name="slow", state="ok", detail="")

    for name in CHECKS:
        monkeypatch.setattr(doctor, f"check_{name}", slow)
    told: list[str] = []
    assert len(list(doctor.local_findings(tmp_path, tell=told.append))) == 9
    assert most == [at_once]
    assert any("torch" in what for what in told)


def test_a_name_that_is_too_long_is_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 300) / "runs"
    says(doctor.check_output(folder), "failure", "too long")
    says(doctor.check_clock(folder), "ok")
    assert str(tmp_path) in doctor.check_disk(folder).detail
    says(doctor.check_data(folder), "ok", "none yet")


def test_the_systems_own_folders_have_a_remedy_of_their_own() -> None:
    found = doctor.check_output(Path("/proc/runs"))
    says(found, "failure", "/proc")
    assert "the system's own" in found.remedy
    found = doctor.check_disk(Path("/proc/runs"))
    says(found, "failure", "/proc")
    assert "--remove" not in found.remedy


def test_storage_behind_a_url(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/new/prefix"
    says(doctor.check_storage(url), "ok", url)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    says(doctor.check_storage(f"file://{tmp_path}/file/prefix"), "failure", "file/prefix")
    says(doctor.check_storage("nothing://here"), "failure", "nothing")


@pytest.mark.process
def test_object_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = S3Server()
    try:
        says(doctor.check_storage(server.url("bucket/prefix")), "ok", "s3://bucket/prefix")
        assert server.filesystem.get_file_info(fs.FileSelector("bucket", recursive=True)) == []
        says(doctor.check_storage(server.url("absent/prefix")), "failure", "no bucket")
    finally:
        server.stop()


def test_the_command_tries_the_storage_of_a_url_and_the_folder_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stub: Path
) -> None:
    for name in CHECKS:
        (stub / f"{name}.py").write_text("raise ImportError('not today')")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    command("--output", f"file://{tmp_path}/store")
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith(f"ok       storage: file://{tmp_path}/store")
    assert any("output folder" in line and str(tmp_path / "home") in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert command("--output", "s3://user:password@bucket/prefix") == 2
