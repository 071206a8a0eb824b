"""Measure how busy the machine is with other work, because a speed beside other work says little."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IDLE_SHARE = 0.15
"""Share of the cores that other work may take on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Other work on the machine, in cores."""

    before_suite: float
    """Busy cores just before the suite."""
    beside: float | None
    """Busy cores during the measurement that its own processes do not explain; None if this cannot be told."""
    average: tuple[float, float, float]
    """Load averages at the end, over 1, 5 and 15 minutes."""

    @property
    def is_idle(self) -> bool:
        """Whether the machine did nothing else, as far as is known."""
        return is_idle(self.before_suite) and (self.beside is None or is_idle(self.beside))


def is_idle(busy_cores: float) -> bool:
    """Return whether a number of busy cores is that of an idle machine."""
    return busy_cores <= IDLE_SHARE * (os.cpu_count() or 1)


def busy_seconds() -> float | None:
    """Return the CPU seconds that all processes of the machine have taken; None where the kernel does not count."""
    try:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(patience_s: float = 0.0) -> tuple[float, bool]:
    """Wait until the machine is idle, but not for longer than some seconds.

    Returns:
        The busy cores at last, and whether they are those of an idle machine.
    """
    deadline = time.monotonic() + patience_s
    while not is_idle(busy := measure_busy_cores()) and time.monotonic() < deadline:
        pass
    return busy, is_idle(busy)


def describe_busy(busy_cores: float) -> str:
    """Explain why nothing is timed on a busy machine, with the remedy."""
    return (
        f"{busy_cores:.1f} of {os.cpu_count()} cores are busy with other work, beside which no speed is measured. Wait "
        "until the machine is idle, or add --busy and --output DIR: the results are then marked, and not published."
    )


def describe_load(load: Mapping[str, Any]) -> str:
    """Describe the load of a results file; in earlier ones it was measured once, before the first suite."""
    when, before = ("it", load["before_suite"]) if "before_suite" in load else ("the first suite", load["before"])
    beside = "not known" if load["beside"] is None else f"{load['beside']:.2f} cores"
    return f"Other work before {when} took {before:.2f} cores; beside it: {beside}."


def measure_busy_cores(seconds: float = 2.0) -> float:
    """Return the busy cores of the next seconds, or the load average where the kernel counts no CPU seconds."""
    before = busy_seconds()
    if before is None:
        return os.getloadavg()[0]
    begun = time.monotonic()
    time.sleep(seconds)
    return ((busy_seconds() or before) - before) / (time.monotonic() - begun)
