"""What each attack finds in a method's models, against Retrain or another reference, from the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ungan_dist.attack.evidence import AttackResult, Evidence, Interval
from ungan_dist.attack.mann_whitney import Influence, auc_interval, gap_interval, measure_influence
from ungan_dist.attack.verdicts import REFERENCE, VERDICT_LEVEL, trace_level

LEVEL = 0.95
"""Confidence level of each cell's interval."""
Key = tuple[str, int]
"""Method and seed."""


def measure_influences(models: Mapping[Key, Sequence[Evidence]]) -> dict[str, dict[Key, list[Influence]]]:
    """Measure the influences on every attack that all of the evidence has, that of its scores first."""
    evidence = [item for items in models.values() for item in items]
    first = evidence[0].attack
    names = [name for name in evidence[0].further_scores if all(name in item.further_scores for item in evidence)]
    return {
        name: {
            key: [
                measure_influence(
                    np.asarray(item.scores if name == first else item.further_scores[name], dtype=np.float64),
                    item.forget,
                    item.non_members,
                )
                for item in items
            ]
            for key, items in models.items()
        }
        for name in (first, *names)
    }


def compare_attacks(
    method: str,
    seeds_of: Mapping[str, Sequence[int]],
    influences: Mapping[str, Mapping[Key, Influence]],
    level: float = VERDICT_LEVEL,
    *,
    reference: str = REFERENCE,
) -> dict[str, AttackResult]:
    """Return what every attack finds in a method's models.

    Args:
        method: the method.
        seeds_of: method → seeds that have evidence.
        influences: attack → method and seed → influences, the first attack first.
        level: level of the gaps' intervals.
        reference: the method whose AUC is subtracted. If it is empty, or without a common seed, .5 is subtracted.
    """
    with_lira, number = "lira" in influences, len(influences)
    return {
        name: AttackResult(
            auc=auc_interval([of[method, seed] for seed in seeds_of[method]], LEVEL),
            gap=_gap(method, seeds_of, of, level, reference),
            corrected_gap=_gap(
                method, seeds_of, of, trace_level(name, number, with_lira=with_lira, level=level), reference
            ),
        )
        for name, of in influences.items()
    }


def _gap(
    method: str,
    seeds_of: Mapping[str, Sequence[int]],
    influences: Mapping[Key, Influence],
    level: float,
    reference: str,
) -> Interval | None:
    """Compute AUC minus the reference's, paired by seed and by example; None for the reference itself."""
    if method == (reference or REFERENCE):
        return None
    common = [seed for seed in seeds_of[method] if seed in seeds_of.get(reference, [])]
    gaps = [
        influences[method, seed].minus(influences[reference, seed] if common else 0.5)
        for seed in common or seeds_of[method]
    ]
    return gap_interval(gaps, level, num_models=2 if common else 1)
