"""Events that a fleet reports to its policy, and actions that the policy returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["done", "failed", "diverged", "out_of_memory", "storage_full", "error"]
"""How a unit's call ended."""


@dataclass(frozen=True, kw_only=True)
class WorkerReady:
    """A worker accepts units."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class UnitStarted:
    """A worker reports the start of a unit."""

    worker: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class UnitEnded:
    """A unit's call has returned."""

    worker: int
    unit: str
    kind: Kind
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkerDied:
    """A worker is lost."""

    worker: int
    reason: str
    node_lost: bool = False
    committed: frozenset[str] = frozenset()
    """Those of its units that have a valid result nevertheless."""


@dataclass(frozen=True, kw_only=True)
class DriverLost:
    """The head is lost, or it has given up the driver's node: no worker will start for this driver again."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time has passed."""


Event = WorkerReady | UnitStarted | UnitEnded | WorkerDied | DriverLost | Tick


@dataclass(frozen=True, kw_only=True)
class StartWorker:
    """Start a worker."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class SubmitUnit:
    """Send a unit to a worker."""

    worker: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class KillWorker:
    """Kill a worker; a ``WorkerDied`` event follows."""

    worker: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReleaseWorker:
    """End a worker that has no unit; no event follows."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class CompleteUnit:
    """Count a unit as done."""

    unit: str


@dataclass(frozen=True, kw_only=True)
class QuarantineUnit:
    """Give up a unit."""

    unit: str
    error: str
    kind: Kind = "error"


@dataclass(frozen=True, kw_only=True)
class StopFleet:
    """Stop, and leave the other units for another run."""

    reason: str


Action = StartWorker | SubmitUnit | KillWorker | ReleaseWorker | CompleteUnit | QuarantineUnit | StopFleet
