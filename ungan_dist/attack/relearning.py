"""Compare how fast models learn the forget set again with Retrain. No verdict takes it into account."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from ungan_dist.attack.estimates import Interval, Relearning
from ungan_dist.attack.evidence import Evidence
from ungan_dist.attack.gaps import LEVEL
from ungan_dist.attack.intervals import SEEDS_FOR_T, student_t_interval
from ungan_dist.attack.verdicts import REFERENCE


def measure_area(curve: Float64[np.ndarray, " steps"]) -> float:
    """Return the area under a curve of accuracies by the trapezoidal rule, divided by the number of steps.

    Examples:
        >>> measure_area(np.array([0.0, 1.0, 1.0]))
        0.75
    """
    return float(np.trapezoid(curve) / (len(curve) - 1))


def measure_relearning(evidence: Sequence[Evidence]) -> dict[str, Relearning]:
    """Measure the relearning of every method that has curves, by name. Unlearnings of one original are averaged.

    Args:
        evidence: measurements of every finished method, seed and unlearning.
    """
    curves: defaultdict[str, defaultdict[int, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for item in evidence:
        if item.relearning is not None:
            curves[item.method][item.seed].append(item.relearning)
    means = {
        method: {seed: np.mean(some, axis=0) for seed, some in sorted(of.items())} for method, of in curves.items()
    }
    areas = {method: {seed: measure_area(curve) for seed, curve in of.items()} for method, of in means.items()}
    return {
        method: Relearning(
            curve=np.mean(list(of.values()), axis=0).tolist(),
            area=list(areas[method].values()),
            gap=_compare(areas[method], areas.get(REFERENCE, {}), is_reference=method == REFERENCE),
        )
        for method, of in means.items()
    }


def _compare(own: dict[int, float], reference: dict[int, float], *, is_reference: bool) -> Interval | None:
    common = sorted(own.keys() & reference.keys())
    if is_reference or len(common) < SEEDS_FOR_T:
        return None
    return student_t_interval([own[seed] - reference[seed] for seed in common], LEVEL)
