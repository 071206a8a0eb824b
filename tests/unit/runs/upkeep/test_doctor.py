"""Every check of this machine succeeds and fails, on real causes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_storage import S3Server
from pyarrow import fs

from ungan_dist import cli
from ungan_dist.runs.upkeep import doctor
from ungan_dist.runs.upkeep.doctor import GIB, Problem

ROOT = Path(__file__).parents[4]


def fails(check: Callable[[], str], state: str, *words: str) -> None:
    with pytest.raises(Problem) as found:
        check()
    assert found.value.state == state
    for word in words:
        assert word in str(found.value)


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


NAMES = ["python", "output folder", "rights", "disk", "memory", "torch", "triton", "kernels", "ffcv"]


@pytest.mark.process
@pytest.mark.timeout(300)
def test_the_command_prints_a_line_per_check_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ffcv.libffcv", reason="FFCV is not installed")
    code = command("--output", tmp_path / "runs")
    lines = capfd.readouterr().out.splitlines()
    assert [line[9:].split(":")[0] for line in lines] == NAMES
    # this machine's disk and memory may be small
    assert all(line.startswith("ok ") for line in lines if line[9:].split(":")[0] not in ("disk", "memory")), lines
    assert code == any(line.startswith("failure") for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.process
def test_a_failure_is_the_exit_code(tmp_path: Path, capfd: pytest.CaptureFixture[str], stub: Path) -> None:
    for name in LIBRARIES:
        (stub / f"{name}.py").write_text("raise ImportError('broken\\nin two lines')")
    assert command("--output", tmp_path) == 1
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == len(NAMES)
    failures = [line for line in lines if line.startswith("failure")]
    assert [line.split()[1] for line in failures] == ["torch:", "triton:", "ffcv:"]
    remedies = {check.name: check.remedy for check in doctor.CHECKS}
    assert all(line.endswith(f"; {remedies[name]}") for name, line in zip(LIBRARIES, failures, strict=True))


@pytest.mark.parametrize("words", [["--cluster", "ray://here:1"], ["--cluster", ""], ["--clutter"], ["digits"]])
def test_wrong_options_are_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 2
    assert capfd.readouterr().err.startswith("ungan-dist: ")


def test_python(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=" + ".".join(map(str, doctor.MINIMUM_PYTHON))
    minor = sys.version_info.minor
    assert doctor.check_python(tmp_path, (3, minor)).startswith(f"3.{minor}")
    fails(lambda: doctor.check_python(tmp_path, (3, minor + 1)), "failure", f"3.{minor + 1}")


def test_the_output_folder(tmp_path: Path, small_disk: Path) -> None:
    assert "is writable" in doctor.check_output(tmp_path)
    assert "will be created" in doctor.check_output(tmp_path / "new" / "runs")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/runs", "link"):
        fails(lambda name=name: doctor.check_output(tmp_path / name), "failure", name.split("/")[0])
    fails(lambda: doctor.check_output(Path("/proc/runs")), "failure", "/proc")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    fails(lambda: doctor.check_output(small_disk / "runs"), "failure", "Read-only", str(small_disk))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "small"]


def test_a_full_disk(small_disk: Path) -> None:
    fails(lambda: doctor.check_disk(small_disk / "runs"), "failure", "below 1.0 GiB", str(small_disk))
    fails(lambda: doctor.check_disk(small_disk, needed=1 << 12, wanted=1 << 20), "warning")
    assert "free" in doctor.check_disk(small_disk, needed=1 << 12, wanted=1 << 13)
    (small_disk / "full").write_bytes(bytes(64 << 10))
    fails(lambda: doctor.check_output(small_disk), "failure", "No space left")


def test_memory_under_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "available" in doctor.check_memory(tmp_path, needed=1, wanted=2)
    monkeypatch.setattr(doctor, "read_cgroup_limits", lambda: [(GIB, GIB // 2)])
    fails(lambda: doctor.check_memory(tmp_path), "failure", "512.0 MiB available, below 1.0 GiB")


@pytest.fixture
def stub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules come before those that are installed."""
    folder = tmp_path_factory.mktemp("stub")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


LIBRARIES = ("torch", "triton", "ffcv")


def run(name: str) -> str:
    """Run a check of the table."""
    (check,) = (check for check in doctor.CHECKS if check.name == name)
    return check.run(Path())


@pytest.mark.parametrize(
    ("name", "content", "state", "word"),
    [
        ("torch", "raise ImportError('libtorch.so: undefined symbol')", "failure", "undefined symbol"),
        ("torch", "import os; os.abort()", "failure", "signal 6"),
        ("torch", "raise ModuleNotFoundError(name='torch')", "failure", "not installed"),
        ("triton", "raise ImportError('libtriton.so: undefined symbol')", "failure", "Triton"),
        ("ffcv", "raise ImportError('libopencv.so: cannot open')", "failure", "libopencv"),
        ("ffcv", "raise ModuleNotFoundError(name='ffcv')", "warning", "not installed"),
        # a missing dependency of FFCV is not a missing FFCV
        ("ffcv", "raise ModuleNotFoundError('no numba', name='numba')", "failure", "numba"),
    ],
)
@pytest.mark.process
def test_a_broken_library(stub: Path, name: str, content: str, state: str, word: str) -> None:
    (stub / f"{name}.py").write_text(content)
    fails(lambda: run(name), state, word)


@pytest.mark.process
def test_a_torch_with_wrong_results(stub: Path) -> None:
    (stub / "sitecustomize.py").write_text("import torch\ntorch.Tensor.__matmul__ = lambda x, y: 2 * x.mm(y)\n")
    fails(lambda: run("torch"), "failure", "gradient")


@pytest.mark.process
def test_a_library_that_hangs_is_a_warning(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stub / "torch.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.5)
    fails(lambda: run("torch"), "warning", "no result", "idle")


def test_storage_behind_a_url(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/new/prefix"
    assert url in doctor.check_storage(url)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way")
    fails(lambda: doctor.check_storage(f"file://{tmp_path}/file/prefix"), "failure", "file/prefix")
    fails(lambda: doctor.check_storage("nothing://here"), "failure", "nothing")


@pytest.mark.process
def test_object_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = S3Server()
    try:
        assert "s3://bucket/prefix" in doctor.check_storage(server.url("bucket/prefix"))
        assert server.filesystem.get_file_info(fs.FileSelector("bucket", recursive=True)) == []
        fails(lambda: doctor.check_storage(server.url("absent/prefix")), "failure", "no bucket")
    finally:
        server.stop()


def test_the_command_tries_the_storage_of_a_url_and_the_folder_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stub: Path
) -> None:
    for name in LIBRARIES:
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
