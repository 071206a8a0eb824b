"""Run units in an actor, one at a time, with the function that it receives."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from ungan_dist.cluster.events import Kind
from ungan_dist.cluster.parcels import Parcel, Unpacking

OnProgress = Callable[[float, str], None]
"""Called within a unit with the number of models trained so far and a note."""
PROGRESS_GROUP = "progress"
"""Concurrency group of :meth:`Worker.get_progress`, which is answered in a thread of its own."""


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """Place of a worker's process."""

    node: str
    """Ray's id of its node."""
    host: str
    pid: int


class UnitOutcome(Protocol):
    """Result of executing a unit: how it ended, and its error if it failed."""

    @property
    def kind(self) -> Kind: ...
    @property
    def error(self) -> str: ...
    @property
    def traceback(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class UnitProgress:
    """Progress within the unit that a worker computes, or computed last."""

    unit: str = ""
    """Id of the unit."""
    models: float = 0.0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """An outcome without its unit, so that the reply is small."""

    kind: Kind
    error: str
    traceback: str = ""
    gpu_memory_bytes: int = 0
    """Peak memory of this process on its device."""


class Worker:
    """Execute units; the given function commits their results."""

    def __init__(self, execute: Callable[[Any, OnProgress], UnitOutcome], gpu_share: float) -> None:
        self._execute = execute
        self._progress = UnitProgress()
        self._unpacking = Unpacking()
        self._has_gpu = gpu_share > 0
        if 0 < gpu_share < 1:
            import torch

            # Ray's GPU shares do not limit memory
            if torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(gpu_share)

    def describe(self) -> WorkerInfo:
        """Return the worker's place once its imports are done."""
        return WorkerInfo(node=ray.get_runtime_context().get_node_id(), host=socket.gethostname(), pid=os.getpid())

    def report_start(self, unit: str) -> None:
        """Return at once: the call is queued ahead of each unit and reports the unit's start."""
        del unit

    def run_unit(self, parcel: Parcel) -> UnitResult:
        """Execute a unit, which commits its result."""
        unit = self._unpacking.unpack(parcel)

        def note_progress(models: float, note: str) -> None:
            self._progress = UnitProgress(unit=unit.id, models=models, note=note)

        outcome = self._execute(unit, note_progress)
        return UnitResult(
            kind=outcome.kind,
            error=outcome.error,
            traceback=outcome.traceback,
            gpu_memory_bytes=self._measure_gpu_memory(),
        )

    def get_progress(self) -> UnitProgress:
        """Return the latest progress, also in the middle of a unit."""
        return self._progress

    def _measure_gpu_memory(self) -> int:
        if not self._has_gpu:
            return 0
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
