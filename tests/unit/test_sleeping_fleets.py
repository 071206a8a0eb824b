"""A run with a killed worker is measured only if a worker was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sleeping_units import SleepingUnit, Slept

pytest.importorskip("triton")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import sleeping_fleets


class Fleet:
    """A fleet of this process, whose workers may have other processes."""

    def run_units(self, units: Sequence[SleepingUnit]) -> Iterator[Slept]:
        for unit in units:
            time.sleep(unit.seconds)
            yield Slept()


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process with the title of a Ray worker."""
    command = ["ray::Worker.execute", "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(command, executable=sys.executable)
    yield process
    process.kill()
    process.wait()


def test_a_run_in_which_no_worker_was_killed_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="no worker of the fleet was killed"):
        sleeping_fleets.run(Fleet(), 2, 0.1, killed_after=0.05)


def test_a_run_that_ends_before_the_kill_is_no_measurement(worker: subprocess.Popen[bytes]) -> None:
    with pytest.raises(RuntimeError, match="no worker of the fleet was killed"):
        sleeping_fleets.run(Fleet(), 1, 0.0, killed_after=30.0)
    assert worker.poll() is None


def test_a_worker_is_killed_during_the_run(worker: subprocess.Popen[bytes]) -> None:
    assert sleeping_fleets.run(Fleet(), 2, 0.5, killed_after=0.05) >= 1.0
    assert worker.wait(10) == -9


def test_the_workers_of_other_processes_are_left_alone() -> None:
    """A worker whose parent has ended belongs to no fleet of this process."""
    words = (
        "import subprocess as sub; quiet = {'stdout': sub.DEVNULL, 'stderr': sub.DEVNULL}; "
        "command = ['ray::Worker', '-c', 'import time; time.sleep(60)']; "
        f"print(sub.Popen(command, executable={sys.executable!r}, **quiet).pid)"
    )
    pid = int(subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout)
    try:
        assert sleeping_fleets.kill_one() == []
    finally:
        os.kill(pid, 9)
