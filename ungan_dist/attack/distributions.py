"""Quantiles and tails of distributions, by SciPy's special functions.

``scipy.stats`` has them all, but its import takes 0.7 seconds, more than most commands and workers compute with it.
``tests/unit/attack/test_distributions.py`` compares the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special


def normal_quantile(probability: Any) -> Any:
    """Return the value that a standard normal stays below with this probability.

    Examples:
        >>> round(float(normal_quantile(0.975)), 3)
        1.96
    """
    return special.ndtri(probability)


def normal_below(value: Any) -> Any:
    """Return the probability that a standard normal is at most this value."""
    return special.ndtr(value)


def normal_above(value: Any) -> Any:
    """Return the probability that a standard normal is above this value, exact also where it is small."""
    return special.ndtr(np.negative(value))


def student_t_quantile(probability: Any, freedom: Any) -> Any:
    """Return the value that Student's t with ``freedom`` degrees of freedom stays below with this probability.

    Examples:
        >>> round(float(student_t_quantile(0.975, 2)), 3)
        4.303
    """
    return special.stdtrit(freedom, probability)


def student_t_above(value: Any, freedom: Any) -> Any:
    """Return the probability that Student's t is above this value, exact also where it is small."""
    return special.stdtr(freedom, np.negative(value))


def chi2_quantile(probability: Any, freedom: Any) -> Any:
    """Return the value that χ² stays below with this probability.

    Examples:
        >>> round(float(chi2_quantile(0.95, 1)), 3)
        3.841
    """
    return 2 * special.gammaincinv(np.divide(freedom, 2), probability)


def chi2_upper_quantile(probability: Any, freedom: Any) -> Any:
    """Return the value that χ² exceeds with this probability."""
    return special.chdtri(freedom, probability)


def f_quantile(probability: Any, above: Any, below: Any) -> Any:
    """Return the value that Fisher's F stays below with this probability.

    Args:
        probability: the probability.
        above: degrees of freedom of the numerator.
        below: degrees of freedom of the denominator.

    Examples:
        >>> round(float(f_quantile(0.95, 2, 10)), 3)
        4.103
    """
    return special.fdtri(above, below, probability)


def f_upper_quantile(probability: Any, above: Any, below: Any) -> Any:
    """Return the value that Fisher's F exceeds with this probability: 1/F has the two degrees of freedom exchanged."""
    return 1 / special.fdtri(below, above, probability)


def exact_share_interval(num_hits: int, num_trials: int, level: float) -> tuple[float, float]:
    """Compute Clopper and Pearson's (1934) interval of a share, which covers at least as often as it says.

    Args:
        num_hits: how often it happened.
        num_trials: how often it could.
        level: confidence level.

    Examples:
        >>> low, high = exact_share_interval(0, 10, level=0.95)
        >>> low, round(high, 4)
        (0.0, 0.3085)
    """
    error = (1 - level) / 2
    low = float(special.betaincinv(num_hits, num_trials - num_hits + 1, error)) if num_hits else 0.0
    high = float(special.betaincinv(num_hits + 1, num_trials - num_hits, 1 - error)) if num_hits < num_trials else 1.0
    return low, high
