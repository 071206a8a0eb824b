"""Functions that execute a unit and fail in real ways. Ray's workers import this module by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from ungan_dist import store
from ungan_dist.runs import shadows, units
from ungan_dist.training.optimizers import without_compiler

POINTS = ("step", "before commit", "in commit", "after commit")
"""Points of a unit at which its process can be killed."""


@dataclass(frozen=True, kw_only=True)
class KillSelf:
    """Kill the own process once per victim, at the given point of the unit."""

    victims: dict[str, str]
    """Unit id → point."""
    notes: Path

    def __call__(self, unit: Any, on_progress: Any = None) -> Any:
        point = self.victims.get(unit.id, "")
        note = self.notes / f"{unit.id}.killed"
        if not point or note.exists():
            return units.execute(unit)

        def kill(*_: Any, **__: Any) -> None:
            note.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)

        match point:
            case "step":
                steps = iter(range(5))
                kind = without_compiler(torch.optim.SGD)
                real = kind.step

                def step(*args: Any, **kwargs: Any) -> Any:
                    return real(*args, **kwargs) if next(steps, None) is not None else kill()

                kind.step = step  # pyright: ignore[reportAttributeAccessIssue]
            case "before commit":
                store.commit = kill
            case "in commit":
                store.write_record = kill  # the files are written, the marker is not
            case _:
                units.execute(unit)
                kill()
        return units.execute(unit)


@dataclass(frozen=True, kw_only=True)
class ExecuteSlowly:
    """Write down the process and its node, and sleep before each unit."""

    notes: Path
    seconds: float

    def __call__(self, unit: Any, on_progress: Any = None) -> Any:
        (self.notes / f"{os.getpid()}.at").write_text(ray.get_runtime_context().get_node_id())
        time.sleep(self.seconds)
        return units.execute(unit)


def run_out_of_memory(unit: Any, on_progress: Any = None) -> Any:
    """Allocate more memory than there is for blocks of more than two models."""
    real = shadows.train_shadows

    def train_shadows(unit: Any, *arguments: Any) -> Any:
        if len(unit.shadows) > 2:
            torch.empty(2**58, dtype=torch.uint8)
        return real(unit, *arguments)

    units.train_shadows = train_shadows
    return units.execute(unit)
