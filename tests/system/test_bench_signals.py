"""A signal to ``ungan-dist bench`` ends the suite that it measures, whose files are removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import alive

pytestmark = pytest.mark.bench
pytest.importorskip("triton")
PATIENCE_S = 30.0


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A bench that measures the suite storage at full size, and the process of the suite, which has files by now."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = ["-m", "ungan_dist", "bench", "storage", "--busy", "--output", str(tmp_path / "results")]
    bench = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, *words],  # a background job's children ignore it
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert bench.stdout is not None
        bench.stdout.readline()
        while not list(scratch.glob("tmp*/*")):  # the runs that the suite makes, beside its rows
            time.sleep(0.05)
        (suite,) = children(bench.pid)
        yield bench, suite
    finally:
        bench.kill()
        bench.communicate()


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_benchmark_ends_its_suite_with_one_line(
    measured: tuple[subprocess.Popen[str], int], tmp_path: Path, number: signal.Signals, code: int, word: str
) -> None:
    bench, suite = measured
    bench.send_signal(number)
    _, printed = bench.communicate(timeout=PATIENCE_S)
    assert not alive(suite)
    assert printed == f"ungan-dist bench: {word}; suites that had ended keep their results\n"
    assert bench.returncode == code
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "results").exists()


def test_the_suite_of_a_killed_benchmark_ends(measured: tuple[subprocess.Popen[str], int]) -> None:
    bench, suite = measured
    bench.kill()
    deadline = time.monotonic() + PATIENCE_S
    while alive(suite):
        assert time.monotonic() < deadline
        time.sleep(0.1)
