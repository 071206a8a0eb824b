"""Measure how busy the machine is with other work, because a speed beside other work says little."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

IDLE_SHARE = 0.15
"""Share of the cores that other work may take on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Other work on the machine, in cores."""

    before: float
    """Busy cores before the first measurement."""
    beside: float | None
    """Busy cores during the measurement that its own processes do not explain; None if this cannot be told."""
    average: tuple[float, float, float]
    """Load averages at the end, over 1, 5 and 15 minutes."""

    @property
    def is_idle(self) -> bool:
        """Whether the machine did nothing else."""
        return is_idle(self.before) and is_idle(self.beside or 0.0)


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


def measure_busy_cores(seconds: float = 2.0) -> float:
    """Return the busy cores of the next seconds, or the load average where the kernel counts no CPU seconds."""
    before = busy_seconds()
    if before is None:
        return os.getloadavg()[0]
    begun = time.monotonic()
    time.sleep(seconds)
    return ((busy_seconds() or before) - before) / (time.monotonic() - begun)
