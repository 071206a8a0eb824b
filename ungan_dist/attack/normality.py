"""Are the log-odds of shadow models Gaussian, as LiRA assumes? An Anderson–Darling test of each example."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import log_ndtr

from ungan_dist.attack.evidence import Normality

LEVEL = 0.05
"""Level of each test: the share of Gaussian examples that is rejected by chance."""
FEWEST = 8
"""Fewest values of a test, as Stephens recommends."""
MAX_EXAMPLES = 10_000
"""Examples to test, evenly spaced; more of them would not change the first two digits of the share."""
CHUNK_BYTES = 2**23
"""Size of the log-odds that are sorted at once."""
CRITICAL = 0.752
"""Critical value at 5 % for unknown mean and variance (D'Agostino & Stephens 1986, table 4.7)."""


def measure_normality(
    log_odds: Float[np.ndarray, "models examples queries"], membership: Bool[np.ndarray, "models examples"]
) -> Normality | None:
    """Test the log-odds of the IN models, and of the OUT models, of each example and query.

    Args:
        log_odds: log-odds of every shadow model.
        membership: True where a shadow model was trained on an example.

    Returns:
        The shares that are rejected at 5 %; None if an example has fewer than eight IN or OUT models.
    """
    num_examples = log_odds.shape[1]
    some = np.linspace(0, num_examples - 1, min(num_examples, MAX_EXAMPLES)).round().astype(np.int64)
    num_in = membership[:, some].sum(0)
    if min(num_in.min(), len(membership) - num_in.max()) < FEWEST:
        return None
    num_tested = len(some) * log_odds.shape[2]
    rejected = np.zeros(2)
    step = max(1, CHUNK_BYTES // log_odds[:, 0].size // 8)
    for start in range(0, len(some), step):  # the sorted values of all would take several times the log-odds
        examples = some[start : start + step]
        values, is_in = log_odds[:, examples].astype(np.float64), membership[:, examples]
        for group, chosen in enumerate((is_in, ~is_in)):
            counts = chosen.sum(0)
            rejected[group] += sum(_reject(values, chosen, counts == count).sum() for count in np.unique(counts))
    rejected_in, rejected_out = (rejected / num_tested).tolist()
    return Normality(rejected_in=rejected_in, rejected_out=rejected_out, num_tested=num_tested)


def _reject(
    values: Float[np.ndarray, "models examples queries"],
    chosen: Bool[np.ndarray, "models examples"],
    examples: Bool[np.ndarray, " examples"],
) -> Bool[np.ndarray, " tests"]:
    """Test examples that have equally many chosen models."""
    # the chosen models of an example, first
    rows = np.argsort(~chosen[:, examples], axis=0, kind="stable")[: chosen[:, np.argmax(examples)].sum()]
    groups = np.take_along_axis(values[:, examples], rows[..., None], axis=0)
    return measure_distance(groups.reshape(len(groups), -1)) > CRITICAL


def measure_distance(values: Float[np.ndarray, "values tests"]) -> Float[np.ndarray, " tests"]:
    """Compute the Anderson–Darling statistic A*² of each column, for a Gaussian with unknown mean and variance.

    It has Stephens' factor 1 + .75/n + 2.25/n², so its critical values do not depend on n.

    Examples:
        >>> gaps = np.array([[-1.2, -1.0], [-0.4, -0.9], [0.4, -0.9], [1.2, 9.0]])
        >>> measure_distance(gaps).round(2)
        array([0.21, 1.08])
    """
    n = len(values)
    deviation = np.maximum(values.std(0, ddof=1), np.finfo(np.float64).tiny)
    z = np.sort((values - values.mean(0)) / deviation, axis=0)
    weights = (2 * np.arange(1, n + 1) - 1)[:, None] / n
    statistic = -n - (weights * (log_ndtr(z) + log_ndtr(-z[::-1]))).sum(0)
    return statistic * (1 + 0.75 / n + 2.25 / n**2)
