"""Units of work: what a process of a pool, or an actor of a cluster, is handed, and what becomes of it."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ungan_dist import store
from ungan_dist.runs import versions
from ungan_dist.shadows import ShadowUnit, train_unit
from ungan_dist.targets import TargetUnit, run_target

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


def execute(unit: Unit) -> Done | Failed:
    """Computes a unit and commits its result; runs in a worker."""
    try:
        if isinstance(unit, ShadowUnit):
            files = {unit.log_odds_file: store.array_bytes(train_unit(unit))}
            facts: dict[str, Any] = {"shadows": list(unit.shadows)}
        else:
            files, facts = run_target(unit)
        facts["versions"] = versions()
        store.commit(root_of(unit), unit.marker, id=unit.id, files=files, facts=facts)
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
