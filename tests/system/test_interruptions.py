"""Audits from the command line that are killed, interrupted, out of disk or started twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_audit import SMALL_OPTIONS

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    # a shell that starts the tests in the background makes them, and so the command, ignore SIGINT
    arguments = ["env", "--default-signal=INT", sys.executable, "-m", "ungan_dist", "run", "digits", *SMALL_OPTIONS]
    arguments += ["--output", str(output), *options]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    process = start(output, *options)
    stdout, stderr = process.communicate(timeout=110)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def table(output: Path) -> bytes:
    return (output / "run/table.json").read_bytes()


def wait_until_begun(output: Path) -> None:
    deadline = time.monotonic() + 60
    while not (output / "run/membership.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_the_command_gives_the_same_run_as_units_executed_one_by_one(finished_run: Path, tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "report.html" in result.stdout
    assert table(tmp_path) == table(finished_run)


@pytest.mark.parametrize("num_kills", [2, pytest.param(5, marks=pytest.mark.chaos)])
def test_an_audit_killed_at_random_is_continued(finished_run: Path, tmp_path: Path, num_kills: int) -> None:
    generator = random.Random(20)
    for _ in range(num_kills):
        process = start(tmp_path)
        time.sleep(generator.uniform(1, 7))
        process.kill()
        process.communicate()
    assert run(tmp_path).returncode == 0
    assert table(tmp_path) == table(finished_run)


def test_a_killed_audit_keeps_every_trained_pair(tmp_path: Path) -> None:
    """With the default unit size, which earlier versions committed as a whole."""
    options = ["--shadows.num-models", "8", "--shadows.unit-size", "8", "--train.epochs", "30"]
    process = start(tmp_path, *options)
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("shadows/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shadows/*.json")}
    assert 1 <= len(kept) < 4
    assert run(tmp_path, *options).returncode == 0
    assert len(list(tmp_path.glob("shadows/*.json"))) == 4
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_audit_keeps_its_state_and_prints_how_to_continue(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "--train.epochs", "400")
    wait_until_begun(tmp_path)
    time.sleep(3)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3, stderr
    assert "run the same command to continue" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_the_run_with_3_and_with_more_space_it_continues(finished_run: Path, small_disk: Path) -> None:
    result = run(small_disk)
    assert result.returncode == 3, result.stderr
    assert "no space left" in result.stderr
    assert (small_disk / "run/config.json").exists()
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert run(small_disk).returncode == 0
    assert table(small_disk) == table(finished_run)


def test_two_drivers_on_one_folder_are_refused(tmp_path: Path) -> None:
    first = start(tmp_path, "--train.epochs", "400")
    wait_until_begun(tmp_path)
    second = run(tmp_path, "--train.epochs", "400")
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another process" in second.stderr


@pytest.mark.timeout(300)
def test_the_environment_does_not_change_results(finished_run: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    arguments = ["run", "digits", *SMALL_OPTIONS, "--output", str(tmp_path), "--execution.num-processes", "2"]
    command = [sys.executable, "-m", "ungan_dist", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True, timeout=280)
    assert table(tmp_path) == table(finished_run)
