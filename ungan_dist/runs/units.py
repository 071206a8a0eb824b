"""Units of work: what a process of a pool, or an actor of a cluster, is handed, and what becomes of it."""

from __future__ import annotations

import errno
import functools
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ungan_dist import store
from ungan_dist.runs.record import versions
from ungan_dist.runs.shadows import Shadows, ShadowUnit, evaluate_shadows, train_shadows
from ungan_dist.runs.targets import Target, TargetUnit, evaluate_target, train_target
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.weights import weights_bytes
from ungan_dist.training.world import SINGLE_PROCESS, World

Unit = ShadowUnit | TargetUnit


@dataclass(frozen=True, kw_only=True)
class Done:
    """A unit whose result was committed."""

    unit: Any
    """The :data:`Unit`, or whatever else a fleet was handed."""
    kind: Literal["done"] = "done"
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A unit that raised, or whose process died more often than the budget allows."""

    unit: Any
    """The :data:`Unit`, or whatever else a fleet was handed."""
    error: str
    kind: Literal["error", "out_of_memory", "storage_full"] = "error"


RunUnits = Callable[[Sequence[Unit]], Iterator[Done | Failed]]
"""The seam at which a pool or a cluster is put in: units in, what became of them out, in any order."""


def is_done(unit: Unit) -> bool:
    """Whether a valid committed result exists: nothing else counts as done."""
    return store.committed(root_of(unit), unit.marker, id=unit.id) is not None


def facts_of(unit: Unit) -> dict[str, Any]:
    """The facts of a unit's committed result; none of them where it has none."""
    return store.committed(root_of(unit), unit.marker, id=unit.id) or {}


def root_of(unit: Unit) -> Path:
    """The folder that a unit's names are relative to: the run's, or for shadow models the output folder of all runs."""
    return Path(unit.prepared.output if isinstance(unit, ShadowUnit) else unit.run)


def missing(units: Iterable[Unit]) -> list[Unit]:
    """The units that have no valid result yet."""
    return [unit for unit in units if not is_done(unit)]


CHECKPOINT_INTERVAL_S = 30.0
"""Seconds of one process's work on a target that a kill may cost; short trainings keep nothing. Shadow models keep
none: a kill costs their unit, whose states would be as many as its models."""


def execute(unit: Unit) -> Done | Failed:
    """Computes a unit and commits its result; runs in a worker.

    It goes on from what an attempt before it has kept, that of several processes as well.
    """

    def compute() -> None:
        kept = _kept(unit, SINGLE_PROCESS, every_s=math.inf if isinstance(unit, ShadowUnit) else CHECKPOINT_INTERVAL_S)
        _commit(unit, _train(unit, SINGLE_PROCESS, kept), kept)

    return _outcome(unit, compute)


def execute_together(units: Iterable[Unit], world: World) -> Iterator[Done | Failed]:
    """Computes units one after the other, every process of a world on each; rank 0 asks the models and commits.

    The state is kept after each epoch: a restart, under any number of processes, goes on from there. What a process
    raises while it trains ends it, and must end the others, which wait for it; torchrun and Ray Train see to that.
    """
    for unit in units:
        kept = _kept(unit, world)
        if world.broadcast(world.rank == 0 and is_done(unit)):
            for checkpoint in kept:  # its process was killed between the two
                checkpoint.remove()
            yield Done(unit=unit)
            continue
        commit = functools.partial(_commit, unit, _train(unit, world, kept), kept)
        yield world.broadcast(_outcome(unit, commit) if world.rank == 0 else None)


def _kept(unit: Unit, world: World, *, every_s: float = 0.0) -> list[Checkpoint]:
    root = root_of(unit)
    return [Checkpoint(root, name, id=unit.id, world=world, every_s=every_s) for name in unit.checkpoints]


def _train(unit: Unit, world: World, kept: list[Checkpoint]) -> Shadows | Target:
    return train_shadows(unit, world, kept) if isinstance(unit, ShadowUnit) else train_target(unit, world, *kept)


def _commit(unit: Unit, trained: Shadows | Target, kept: list[Checkpoint]) -> None:
    """Asks what was trained for all that the audit needs, commits it, and forgets what was kept on the way."""
    if isinstance(unit, ShadowUnit):
        assert isinstance(trained, Shadows)
        files = {unit.log_odds_file: store.array_bytes(evaluate_shadows(unit, trained))}
        if unit.keep_models:
            for shadow, model in zip(unit.shadows, trained.models, strict=True):
                files[unit.weights_file(shadow)] = weights_bytes(model)
        # the data's hash: what a purge knows it by when no run's plan names it any more
        facts: dict[str, Any] = {"shadows": list(unit.shadows), "data": unit.prepared.data_hash}
    else:
        assert isinstance(trained, Target)
        files, facts = evaluate_target(unit, trained)
    store.commit(root_of(unit), unit.marker, id=unit.id, files=files, facts={**facts, "versions": versions()})
    for checkpoint in kept:
        checkpoint.remove()


def _outcome(unit: Unit, compute: Callable[[], None]) -> Done | Failed:
    try:
        compute()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Failed(unit=unit, error=str(error), kind="storage_full")
        return Failed(unit=unit, error=traceback.format_exc())
    except Exception as error:  # whatever a unit raises is its result: the fleet goes on, the failure is named
        kind = "out_of_memory" if _no_memory(error) else "error"
        return Failed(unit=unit, error=traceback.format_exc(), kind=kind)
    return Done(unit=unit)


def _no_memory(error: Exception) -> bool:
    # the CPU's allocator raises a plain RuntimeError
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
