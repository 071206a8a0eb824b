"""A worker of the fleet: one actor, its process and device, a unit at a time. Imports nothing but what it is handed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from ungan_dist.cluster.policy import Kind


@dataclass(frozen=True, kw_only=True)
class Hello:
    """A worker that is up."""

    node: str
    """Ray's id of its node."""
    host: str
    pid: int


class Outcome(Protocol):
    """What a unit's execution returns: how it ended, and the error where it did not end well."""

    @property
    def kind(self) -> Kind: ...
    @property
    def error(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class UnitResult:
    """An outcome without its unit, so that the way back is short."""

    kind: Kind
    error: str
    gpu_memory_bytes: int = 0
    """The most that this process has held on its device."""


class Worker:
    """Runs units with a function that commits their results."""

    def __init__(self, execute: Callable[[Any], Outcome], gpu_share: float) -> None:
        self._execute = execute
        self._has_gpu = gpu_share > 0
        if 0 < gpu_share < 1:
            import torch

            # shares of a GPU do not keep processes out of each other's memory by themselves
            if torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(gpu_share)

    def hello(self) -> Hello:
        """Who and where this worker is; answered once its imports are done."""
        return Hello(node=ray.get_runtime_context().get_node_id(), host=socket.gethostname(), pid=os.getpid())

    def begin(self, unit: str) -> None:
        """Queued ahead of each unit: its return is the unit's own start report."""
        del unit

    def work(self, unit: Any) -> UnitResult:
        """Computes a unit and commits its result."""
        outcome = self._execute(unit)
        return UnitResult(kind=outcome.kind, error=outcome.error, gpu_memory_bytes=self._gpu_memory())

    def _gpu_memory(self) -> int:
        if not self._has_gpu:
            return 0
        import torch

        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
