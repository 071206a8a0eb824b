"""Loss of accuracy against Retrain, or against the original where Retrain is absent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ungan_dist.attack.evidence import Interval
from ungan_dist.attack.intervals import SEEDS_FOR_T, share_difference_interval, student_t_interval
from ungan_dist.attack.utility import list_compared_sets
from ungan_dist.attack.verdicts import REFERENCE, VERDICT_LEVEL


def measure_losses(
    method: str,
    seeds_of: Mapping[str, list[int]],
    cells: Mapping[tuple[str, int], Mapping[tuple[str, str], float]],
    sizes: Mapping[str, int],
) -> dict[str, Interval]:
    """Compute the accuracy of Retrain, or of the original without Retrain, minus the method's, paired by seed.

    Args:
        method: the method.
        seeds_of: the seeds of every method.
        cells: estimates by method and seed; those of accuracies are known by ``accuracy`` and the set.
        sizes: number of examples by set.
    """
    reference = REFERENCE if REFERENCE in seeds_of else "original"
    seeds = [seed for seed in seeds_of[method] if seed in seeds_of.get(reference, [])]
    if method in (REFERENCE, "original") or not seeds:
        return {}
    losses: dict[str, Interval] = {}
    for cell in (("accuracy", name) for name in list_compared_sets(item[1] for item in cells[method, seeds[0]])):
        known = [seed for seed in seeds if cell in cells[reference, seed] and cell in cells[method, seed]]
        there, here = ([cells[one, seed][cell] for seed in known] for one in (reference, method))
        if len(known) >= SEEDS_FOR_T:
            losses[cell[1]] = student_t_interval(np.subtract(there, here), VERDICT_LEVEL)
        elif known:
            losses[cell[1]] = share_difference_interval(there, here, sizes[cell[1]], VERDICT_LEVEL)
    return losses
