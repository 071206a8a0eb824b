"""Membership p values of single forget examples, for people who ask about one record and not about a set.

The null hypothesis is that the model was never trained on the example. Its log-odds are then a draw of the same
Gaussian as those of the OUT shadow models. The p value is the chance that such a draw is at least as high.

This holds only for a model trained like the shadow models. A more confident model has low p values on examples that it
never saw, too. So shares of low p values are counted on the non-members of the same model as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

from ungan_dist.attack.distributions import normal_above, normal_quantile, student_t_above
from ungan_dist.attack.evidence import Evidence, RecordPValues
from ungan_dist.attack.moments import Moments

LEVEL = 0.95
"""Confidence level of the interval of a p value."""
P_LEVELS = (0.05, 0.01)
"""Levels at which the membership p values of single forget examples are counted."""


def measure_p_values(
    target: Float64[np.ndarray, " forget"], out: Moments, ids: Int[np.ndarray, " forget"]
) -> RecordPValues:
    """Compare a model's log-odds with those of the shadow models that never had the example.

    Args:
        target: log-odds of the model, mean over the queries.
        out: moments of the OUT models' log-odds, of at least two models each.
        ids: index of each example in the data set.

    Source: the one-sided test of offline LiRA (Carlini et al. 2022); for the interval, the approximation of the
    noncentral t distribution by Johnson & Welch (1940), which needs no search.

    Examples:
        >>> out = Moments(np.array([8]), np.array([1.0]), np.array([7.0]))  # mean 1, standard deviation 1
        >>> found = measure_p_values(np.array([3.0]), out, ids=np.array([17]))
        >>> [round(float(values[0]), 3) for values in (found.p, found.low, found.high)]
        [0.051, 0.001, 0.251]
    """
    freedom = out.num_values - 1
    deviation = np.sqrt(out.squares / freedom)
    # models that all agree to the last bit have no spread; then only an equal target is no surprise
    distance = (target - out.mean) / np.maximum(deviation, 1e-12)
    statistic = np.sqrt(out.num_values) * distance
    center = statistic * (1 - 1 / (4 * freedom))
    margin = float(normal_quantile((1 + LEVEL) / 2)) * np.sqrt(1 + statistic**2 / (2 * freedom))
    return RecordPValues(
        ids=ids,
        p=student_t_above(distance / np.sqrt(1 + 1 / out.num_values), freedom),
        low=normal_above((center + margin) / np.sqrt(out.num_values)),
        high=normal_above((center - margin) / np.sqrt(out.num_values)),
        num_out=out.num_values,
    )


def count_low_p_values(evidence: Sequence[Evidence], *, of_non_members: bool = False) -> dict[str, list[float]]:
    """Return the share of examples with a p value of at most each of ``P_LEVELS``.

    Args:
        evidence: measurements of one method.
        of_non_members: count the non-members; defaults to the forget examples.

    Returns:
        The shares by level, one per seed: the mean over the seed's unlearnings.
    """
    found: defaultdict[int, list[np.ndarray]] = defaultdict(list)
    for item in sorted(evidence, key=lambda item: item.seed):
        if item.p_values is not None:
            p = item.p_values.non_member_p if of_non_members else item.p_values.p
            if len(p):
                found[item.seed].append(p)
    return {
        str(level): [float(np.mean([(p <= level).mean() for p in some])) for some in found.values()]
        for level in P_LEVELS
        if found
    }
