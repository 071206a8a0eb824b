"""How much does the attack depend on the number of shadow models? LiRA again, with fewer of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ungan_dist.attack.evidence import Evidence
from ungan_dist.attack.lira import ShadowFits
from ungan_dist.attack.metrics import auc
from ungan_dist.config.attack import MIN_SHADOWS


def list_smaller(num_shadows: int) -> list[int]:
    """List a quarter and a half of a number of shadow models, in whole pairs and as far as enough are left.

    Examples:
        >>> list_smaller(64), list_smaller(12), list_smaller(4)
        ([16, 32], [6], [])
    """
    return [number for part in (4, 2) if (number := num_shadows // part // 2 * 2) >= MIN_SHADOWS]


def measure_sensitivity(
    evidence: Sequence[Evidence], smaller: Mapping[int, ShadowFits], num_shadows: int
) -> dict[str, dict[int, float]]:
    """Measure LiRA's AUC (b) with fewer shadow models.

    Args:
        evidence: scores of every method and seed by all shadow models.
        smaller: number of shadow models → the fits of the first so many.
        num_shadows: number of all shadow models.

    Returns:
        Method → number of shadow models → AUC, mean over the seeds. Empty without smaller fits.
    """
    if not smaller:
        return {}
    found: dict[str, dict[int, list[float]]] = {}
    for item in evidence:
        scores = {number: fits.score(item.log_odds) for number, fits in smaller.items()}
        for number, values in (scores | {num_shadows: item.scores}).items():
            value = auc(values[item.forget], values[item.non_members])
            found.setdefault(item.method, {}).setdefault(number, []).append(value)
    return {
        method: {number: float(np.mean(values)) for number, values in by_number.items()}
        for method, by_number in found.items()
    }
