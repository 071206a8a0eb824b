"""Units that only sleep, to test the scheduling without importing torch."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SleepingUnit:
    """A unit that sleeps."""

    id: str
    seconds: float
    num_models: int = 1

    @property
    def title(self) -> str:
        return f"sleeping unit {self.id}"


@dataclass(frozen=True, kw_only=True)
class Slept:
    """The outcome of a sleeping unit."""

    kind: str = "done"
    error: str = ""
    traceback: str = ""


def sleep(unit: SleepingUnit, on_progress: Any = None) -> Slept:
    assert "torch" not in sys.modules
    time.sleep(unit.seconds)
    return Slept()


@dataclass(frozen=True, kw_only=True)
class Deaths:
    """How often the process of a function dies, and where it notes its attempts."""

    times: int
    notes: Path


def die_at_first(deaths: Deaths) -> list[int]:
    """End this process as a lost host would, some times; then return the number of attempts."""
    attempts = 1 + len(list(deaths.notes.iterdir()))
    (deaths.notes / str(attempts)).touch()
    if attempts <= deaths.times:
        os._exit(17)
    return [attempts]


def divide(divisor: int) -> list[float]:
    return [1 / divisor]


def always_done(unit: Any) -> bool:
    return True


def never_done(unit: Any) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class SleepAndMark:
    """Sleep, then leave a file, as a unit leaves its result: a unit whose process was killed is not done."""

    notes: Path

    def __call__(self, unit: SleepingUnit, on_progress: Any = None) -> Slept:
        slept = sleep(unit)
        (self.notes / f"{unit.id}.done").touch()
        return slept

    def is_done(self, unit: SleepingUnit) -> bool:
        return (self.notes / f"{unit.id}.done").exists()


@dataclass(frozen=True, kw_only=True)
class HangOnce:
    """Sleep, except that one unit hangs on its first attempt."""

    unit: str
    notes: Path

    def __call__(self, unit: SleepingUnit, on_progress: Any = None) -> Slept:
        note = self.notes / "hung"
        if unit.id == self.unit and not note.exists():
            note.write_text(str(os.getpid()))
            while True:
                time.sleep(1)
        return sleep(unit)


@dataclass(frozen=True, kw_only=True)
class BreakOnce:
    """Sleep, except that one unit breaks its process on its first attempt; every later unit there fails at once."""

    unit: str
    notes: Path

    def __call__(self, unit: SleepingUnit, on_progress: Any = None) -> Slept:
        note = self.notes / "broken"
        if unit.id == self.unit and not note.exists():
            note.write_text(str(os.getpid()))
        if note.exists() and note.read_text() == str(os.getpid()):
            return Slept(kind="error", error="CUDA error: an illegal memory access was encountered")
        return sleep(unit)


@dataclass(frozen=True, kw_only=True)
class FailInThreeWays(SleepAndMark):
    """Sleep, except that one unit returns an error, one ends its process, and one hangs on its first attempt."""

    failing: str
    exiting: str
    hanging: str

    def __call__(self, unit: SleepingUnit, on_progress: Any = None) -> Slept:
        if unit.id == self.failing:
            return Slept(kind="error", error="FloatingPointError: log-odds of shadow models [3] are not finite")
        if unit.id == self.exiting:
            os._exit(17)
        if unit.id == self.hanging:
            HangOnce(unit=unit.id, notes=self.notes)(unit)
        return super().__call__(unit)
