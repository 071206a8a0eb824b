"""The error that each look of a sequential audit may make.

An audit that is looked at several times, and stopped once it is decided, errs more often than its intervals say. So the
looks share the error of one audit. Whatever they have in common, and even if the truth changes from look to look, all
of them together err at most as often (Bonferroni). ``benchmarks/sequential.py`` simulates error rates and cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look of a sequential audit, stated before its start."""

    num_seeds: int
    num_shadows: int
    level: float
    """Level of the gaps' intervals."""
    undecided: list[str] | None = None
    """Methods without a decision; None for a look that was not made before this report."""


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The path of a sequential audit up to its report."""

    looks: list[Look]
    """Every look that was stated."""
    index: int
    """The look of this report."""
    ended: Literal["", "decided", "looks", "hours"] = ""
    """Why no look follows: every row is decided, all looks were made, or the time is up. Empty if one follows."""
    earlier: list[str] = field(default_factory=list)
    """Reports that existed before the looks were stated, whose error the looks do not count."""


def spend_error(num_looks: int) -> list[float]:
    """Divide the error among looks: half for the last, a quarter for the one before, and so on.

    Where every look doubles the seeds, each has spent as much as its part of all seeds.

    Examples:
        >>> spend_error(4)
        [0.125, 0.125, 0.25, 0.5]
        >>> spend_error(1)
        [1.0]
    """
    return [0.5 ** min(num_looks - index, num_looks - 1) for index in range(num_looks)]


def list_levels(num_looks: int, level: float) -> list[float]:
    """List the level of each look's intervals, where a single look has intervals of this level.

    Examples:
        >>> [round(one, 4) for one in list_levels(3, 0.90)]
        [0.975, 0.975, 0.95]
    """
    return [1 - (1 - level) * share for share in spend_error(num_looks)]
