"""Place units on the GPUs of a machine: a target alone on its GPU, several units of shadow models on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ungan_dist.runs.targets import TargetUnit

One = TypeVar("One")
"""A unit, or what stands for one."""

PROCESS_BYTES = 600 * 2**20
"""Memory of a GPU that a process takes beside its tensors, for its context and libraries."""
USABLE = 0.9
"""Part of the free memory that is filled."""
MAX_UNITS = 4
"""Most units on one GPU."""


def count_units(unit_bytes: int, free_bytes: int, cores_per_gpu: int) -> int:
    """Count the units that a GPU takes at once, each in a process of its own.

    Args:
        unit_bytes: Peak memory of one unit on the GPU.
        free_bytes: Free memory of the GPU, before any unit.
        cores_per_gpu: Cores of the machine for each GPU; every process keeps one busy.

    Examples:
        >>> gib = 2**30
        >>> count_units(2 * gib, 80 * gib, 16), count_units(9 * gib, 24 * gib, 16), count_units(9 * gib, 10 * gib, 16)
        (4, 2, 1)
    """
    fitting = int(USABLE * free_bytes) // (unit_bytes + PROCESS_BYTES)
    return max(1, min(fitting, cores_per_gpu, MAX_UNITS))


def is_timed_alone(unit: object) -> bool:
    """Whether nothing else may run on the unit's GPU, because its time is reported (T_U)."""
    return isinstance(unit, TargetUnit) and unit.device == "cuda"


def find_next(waiting: Sequence[One], busy: Sequence[One], is_alone: Callable[[One], bool]) -> int | None:
    """Find the first waiting unit that may start on a GPU.

    Args:
        waiting: Units in the order in which they are wanted.
        busy: Units that run on the GPU.
        is_alone: Whether a unit needs the GPU for itself.

    Returns:
        Its position, or ``None`` if none may start now.
    """
    if any(map(is_alone, busy)):
        return None
    return next((place for place, unit in enumerate(waiting) if not busy or not is_alone(unit)), None)
