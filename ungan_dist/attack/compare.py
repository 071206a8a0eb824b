"""Compare one method in two runs: the difference of its AUC, paired where they share seeds and shadow models."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ungan_dist.attack.evidence import Evidence, Interval, Report
from ungan_dist.attack.mann_whitney import Influence, gap_interval, measure_influence
from ungan_dist.attack.verdicts import VERDICT_LEVEL


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A run as it is compared."""

    name: str
    report: Report
    fleet: Hashable
    """What two runs have in common if they share their data and all their shadow models."""


def difference(first: Sequence[Evidence], second: Sequence[Evidence]) -> Interval | str:
    """Compute the AUC (b) of the second minus that of the first, paired by seed and by example, or say why not.

    Both are the results of one method against the same shadow models.
    """
    partners = {item.seed: item for item in first}
    gaps = [
        _influence(item).minus(_influence(partners[item.seed]))
        for item in second
        if item.seed in partners and _have_same_sets(item, partners[item.seed])
    ]
    if not gaps:
        return "no common seed with the same sets"
    return gap_interval(gaps, VERDICT_LEVEL, num_models=2)


def compare_with_first(runs: Sequence[Audited], method: str) -> list[Interval | str | None]:
    """Compare a method of each further run with the first run; None where a run has no such row."""
    first, *others = runs
    found: list[Interval | str | None] = []
    for other in others:
        here, there = ([item for item in run.report.evidence if item.method == method] for run in (first, other))
        if not here or not there:
            found.append(None)
        elif first.fleet != other.fleet:
            found.append("other data" if first.report.data_hash != other.report.data_hash else "other shadow models")
        else:
            found.append(difference(here, there))
    return found


def list_methods(runs: Sequence[Audited]) -> dict[str, str]:
    """List the methods of all runs with their titles, in the order in which they first appear."""
    return {row.method: row.title for run in runs for row in run.report.rows}


def _influence(item: Evidence) -> Influence:
    return measure_influence(np.asarray(item.scores, dtype=np.float64), item.forget, item.non_members)


def _have_same_sets(one: Evidence, other: Evidence) -> bool:
    return np.array_equal(one.forget, other.forget) and np.array_equal(one.non_members, other.non_members)
