"""Units that only sleep: they measure scheduling, and import no torch."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Nap:
    """A unit that only sleeps: it measures scheduling."""

    id: str
    seconds: float
    num_models: int = 1

    @property
    def title(self) -> str:
        return f"nap {self.id}"


@dataclass(frozen=True, kw_only=True)
class Rested:
    kind: str = "done"
    error: str = ""


def sleep(nap: Nap) -> Rested:
    assert "torch" not in sys.modules
    time.sleep(nap.seconds)
    return Rested()


def always(unit: Any) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Hanging:
    """One unit hangs, the first time."""

    unit: str
    notes: Path

    def __call__(self, nap: Nap) -> Rested:
        note = self.notes / "hung"
        if nap.id == self.unit and not note.exists():
            note.write_text(str(os.getpid()))
            while True:
                time.sleep(1)
        return sleep(nap)


@dataclass(frozen=True, kw_only=True)
class Breaking:
    """One unit, the first time, leaves its process broken: whatever comes after it there fails at once."""

    unit: str
    notes: Path

    def __call__(self, nap: Nap) -> Rested:
        note = self.notes / "broken"
        if nap.id == self.unit and not note.exists():
            note.write_text(str(os.getpid()))
        if note.exists() and note.read_text() == str(os.getpid()):
            return Rested(kind="error", error="CUDA error: an illegal memory access was encountered")
        return sleep(nap)
