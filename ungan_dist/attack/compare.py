"""Compare one method in two runs: each attack's difference of AUCs, paired where they share seeds and shadow models."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ungan_dist.attack.evidence import Evidence, Interval, Report
from ungan_dist.attack.flat import Value, spread
from ungan_dist.attack.mann_whitney import Influence, average_influences, gap_interval, measure_influence
from ungan_dist.attack.verdicts import VERDICT_LEVEL
from ungan_dist.config.attack import ATTACK_NAMES


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A run as it is compared."""

    name: str
    report: Report
    fleet: Hashable
    """What two runs have in common if they share their data and all their shadow models."""


def difference(first: Sequence[Evidence], second: Sequence[Evidence], attack: str = "lira") -> Interval | str:
    """Compute the AUC (b) of the second minus that of the first, paired by seed and by example, or say why not.

    Both are the results of one method against the same shadow models.
    """
    if not all(attack in {item.attack, *item.further_scores} for item in (*first, *second)):
        return f"not both have {ATTACK_NAMES[attack]}"
    here, there = _group_by_seed(first), _group_by_seed(second)
    gaps = [
        _influence(items, attack).minus(_influence(here[seed], attack))
        for seed, items in there.items()
        if seed in here and _have_same_sets(items[0], here[seed][0])
    ]
    if not gaps:
        return "no common seed with the same sets"
    return gap_interval(gaps, VERDICT_LEVEL, num_models=2)


def compare_with_first(runs: Sequence[Audited], method: str, attack: str = "lira") -> list[Interval | str | None]:
    """Compare a method of each further run with the first run by one attack; None where a run has no such row."""
    first, *others = runs
    found: list[Interval | str | None] = []
    for other in others:
        here, there = ([item for item in run.report.evidence if item.method == method] for run in (first, other))
        if not here or not there:
            found.append(None)
        elif first.fleet != other.fleet:
            found.append("other data" if first.report.data_hash != other.report.data_hash else "other shadow models")
        else:
            found.append(difference(here, there, attack))
    return found


def list_methods(runs: Sequence[Audited]) -> dict[str, str]:
    """List the methods of all runs with their titles, in the order in which they first appear."""
    return {row.method: row.title for run in runs for row in run.report.rows}


def list_attacks(runs: Sequence[Audited]) -> list[str]:
    """List the attacks that any row of any run has, LiRA first unless all runs are quick."""
    return [name for name in ATTACK_NAMES if any(name in row.attacks for run in runs for row in run.report.rows)]


def flatten_comparison(runs: Sequence[Audited]) -> list[dict[str, Value]]:
    """Flatten a comparison, one record per method and run, with numbers in full.

    ``difference_NAME`` is an attack's AUC minus that of the first run. It is empty where ``paired`` is not ``yes`` but
    says why.
    """
    records: list[dict[str, Value]] = []
    for method in list_methods(runs):
        found = {name: [None, *compare_with_first(runs, method, name)] for name in list_attacks(runs)}
        for position, run in enumerate(runs):
            for row in (row for row in run.report.rows if row.method == method):
                records.append(
                    {
                        "method": method,
                        "title": row.title,
                        "run": run.name,
                        "verdict": row.verdict.outcome,
                        "decided_by": row.verdict.attack if row.verdict.gap is not None else None,
                        **spread("gap", row.verdict.gap),
                        **spread("accuracy_test", row.accuracy.get("test")),
                        "paired": describe_pairing(position, [some[position] for some in found.values()]),
                    }
                )
                for name, differences in found.items():
                    records[-1] |= spread(f"auc_{name}", row.attacks[name].auc if name in row.attacks else None)
                    records[-1] |= spread(f"difference_{name}", differences[position])
    return records


def describe_pairing(position: int, differences: Sequence[Interval | str | None]) -> str:
    """Say how a run is compared with the first one, from its differences by each attack."""
    if position == 0:
        return "first"
    reasons = [found for found in differences if isinstance(found, str)]
    return "yes" if any(isinstance(found, Interval) for found in differences) else next(iter(reasons), "–")


def _group_by_seed(evidence: Sequence[Evidence]) -> dict[int, list[Evidence]]:
    found: dict[int, list[Evidence]] = {}
    for item in evidence:
        found.setdefault(item.seed, []).append(item)
    return found


def _influence(unlearned: Sequence[Evidence], attack: str) -> Influence:
    """Measure the mean influence of the unlearnings of one seed."""
    influences: list[Influence] = []
    for item in unlearned:
        scores = item.scores if attack == item.attack else item.further_scores[attack]
        influences.append(measure_influence(np.asarray(scores, dtype=np.float64), item.forget, item.non_members))
    return average_influences(influences)


def _have_same_sets(one: Evidence, other: Evidence) -> bool:
    return np.array_equal(one.forget, other.forget) and np.array_equal(one.non_members, other.non_members)
