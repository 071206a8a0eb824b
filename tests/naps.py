"""Units that only sleep: they measure scheduling, and import no torch."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
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
