"""Executions of units that go wrong in real ways. Ray's workers import this module by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import ray
import torch

from ungan_dist import store
from ungan_dist.runs import shadows, units

DEATHS = ("step", "before commit", "in commit", "after commit")


@dataclass(frozen=True, kw_only=True)
class Dying:
    """Kills its own process, once for each victim, at a point of the unit."""

    victims: dict[str, str]
    """Unit id → point."""
    notes: Path

    def __call__(self, unit: Any) -> Any:
        point = self.victims.get(unit.id, "")
        note = self.notes / f"{unit.id}.killed"
        if not point or note.exists():
            return units.execute(unit)

        def die(*_: Any, **__: Any) -> None:
            note.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)

        match point:
            case "step":
                steps = iter(range(5))
                real = torch.optim.SGD.step

                def step(*args: Any, **kwargs: Any) -> Any:
                    return real(*args, **kwargs) if next(steps, None) is not None else die()

                torch.optim.SGD.step = step  # pyright: ignore[reportAttributeAccessIssue]
            case "before commit":
                store.commit = die
            case "in commit":
                store.write_json = die  # the files lie there, the marker does not
            case _:
                units.execute(unit)
                die()
        return units.execute(unit)


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Leaves its process and node behind, and takes its time."""

    notes: Path
    seconds: float

    def __call__(self, unit: Any) -> Any:
        (self.notes / f"{os.getpid()}.at").write_text(ray.get_runtime_context().get_node_id())
        time.sleep(self.seconds)
        return units.execute(unit)


@dataclass(frozen=True, kw_only=True)
class Poisoned:
    """Some units raise, some end their process, some hang the first time; each in every worker that takes them."""

    raising: str
    exiting: str
    hanging: str
    notes: Path

    def __call__(self, unit: Any) -> Any:
        if unit.id == self.raising:
            return units.Failed(unit=unit, error="FloatingPointError: log-odds of shadow models [3] are not finite")
        if unit.id == self.exiting:
            os._exit(17)
        note = self.notes / "hung"
        if unit.id == self.hanging and not note.exists():
            note.write_text(str(os.getpid()))
            while True:
                time.sleep(1)
        return units.execute(unit)


def short_of_memory(unit: Any) -> Any:
    """Blocks of more than a pair ask for more memory than there is."""
    real = shadows.train_shadows

    def train_shadows(unit: Any, *arguments: Any) -> Any:
        if len(unit.shadows) > 2:
            torch.empty(2**58, dtype=torch.uint8)
        return real(unit, *arguments)

    units.train_shadows = train_shadows
    return units.execute(unit)


def elsewhere(unit: Any) -> Any:
    """Commits into a folder that the driver does not see."""
    prepared = unit.prepared
    hidden = Path(mkdtemp())
    (hidden / "data").symlink_to(Path(prepared.output) / "data")
    outcome = units.execute(replace(unit, prepared=replace(prepared, output=str(hidden))))
    assert store.committed(hidden, unit.marker, id=unit.id) is not None
    return outcome
