"""Run units that sleep on a fleet, and kill one of its workers meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import ROOT

HELPERS = str(ROOT / "tests/helpers")
sys.path.append(HELPERS)

from sleeping_units import SleepingUnit  # noqa: E402

ALL_START_S = 5.0
"""Length of a unit in which every worker of a fleet starts."""


def start_workers(fleet: Any, num_workers: int) -> float:
    """Start all workers of a fleet, and return the seconds until the last has started."""
    return run(fleet, num_workers, ALL_START_S) - ALL_START_S


def run(fleet: Any, num_units: int, seconds: float, *, killed_after: float | None = None) -> float:
    """Return the wall time of sleeping units of one length; one worker is killed after some seconds."""
    return run_lengths(fleet, [seconds] * num_units, killed_after=killed_after)


def run_lengths(fleet: Any, lengths: Sequence[float], *, killed_after: float | None = None) -> float:
    """Return the wall time of sleeping units of some lengths; one worker is killed after some seconds.

    Raises:
        RuntimeError: No worker was killed, so that the time is not that of a fleet with a kill.
    """
    name, num_units = time.monotonic_ns(), len(lengths)
    units = [SleepingUnit(id=f"{name}-{number}", seconds=seconds) for number, seconds in enumerate(lengths)]
    killed: list[int] = []
    timer = threading.Timer(killed_after or 0.0, lambda: killed.extend(kill_one()))
    if killed_after is not None:
        timer.start()
    begun = time.monotonic()
    try:
        outcomes = [outcome.kind for outcome in fleet.run_units(units)]
    finally:
        timer.cancel()
    wall_s = time.monotonic() - begun
    if killed_after is not None:
        timer.join()
        if not killed:
            raise RuntimeError(
                f"no worker of the fleet was killed {killed_after:g} s after the start of {wall_s:.1f} s"
            )
    assert outcomes.count("done") == num_units, outcomes
    return wall_s


def kill_one() -> list[int]:
    """Kill the process of one worker of this process's fleet, and return its id; empty if there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            parents = _parents(int(process.name))
        except OSError:
            continue
        if title.startswith(b"ray::Worker") and os.getpid() in parents:
            os.kill(int(process.name), signal.SIGKILL)
            return [int(process.name)]
    return []


def _parents(pid: int) -> list[int]:
    """List the processes above one."""
    found: list[int] = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        found.append(pid)
    return found
