"""Power of an audit before it is run: the gap's interval, the smallest δ it can pass, and the leak it can detect.

Each seed compares the AUC (b) of two methods, a Mann–Whitney statistic over |D_f| forget examples and |D^s|
non-members. At AUC .5 its variance is exactly (|D_f| + |D^s| + 1) / (12 |D_f| |D^s|) (Hanley and McNeil 1982). The
gap's variance is twice that if the methods' errors on the same examples are independent, a conservative assumption.
Variation between seeds beyond the examples is added if a finished run measured it.

A verdict is equivalent only if every attack finds it so. The gaps of all attacks have the same variance without a leak,
but an unknown correlation. The probability that all lie within a margin is at least that of independent gaps (Šidák
1967), so the power is computed for these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import gammaln

from ungan_dist.attack.distributions import chi2_quantile, normal_below, normal_quantile, student_t_quantile
from ungan_dist.attack.evidence import Row
from ungan_dist.attack.intervals import SEEDS_FOR_T
from ungan_dist.attack.verdicts import VERDICT_LEVEL
from ungan_dist.config.attack import ATTACKS
from ungan_dist.config.checks import not_negative, positive

TARGET_POWER = 0.80
"""Probability with which a method equal to Retrain should be found equivalent."""
_QUANTILES = (np.arange(400) + 0.5) / 400


@dataclass(frozen=True, kw_only=True)
class Design:
    """Properties of an audit that determine its power."""

    num_forget: int
    """|D_f|."""
    num_non_members: int
    """|D^s|."""
    num_seeds: int
    num_shadows: int
    """K; 0 in a quick audit."""
    num_attacks: int = len(ATTACKS)
    """Attacks that must all find a method equivalent."""
    spread: float = 0.0
    """Standard deviation of the gap between seeds beyond what the examples explain, in AUC."""
    level: float = VERDICT_LEVEL
    """Level of the gap's interval."""

    def __post_init__(self) -> None:
        positive(
            num_forget=self.num_forget,
            num_non_members=self.num_non_members,
            num_seeds=self.num_seeds,
            num_attacks=self.num_attacks,
        )
        not_negative(num_shadows=self.num_shadows, spread=self.spread)


@dataclass(frozen=True, kw_only=True)
class Power:
    """Power of a design, in units of AUC."""

    half_width: float
    """Expected half width of the 90 % interval of each attack's gap."""
    smallest_delta: float
    """Smallest δ that a method equal to Retrain passes by all attacks in four of five runs, or in more."""
    observable_leak: float
    """LiRA's AUC − .5 with K shadow models, for a leak at which the best attack has AUC − .5 = δ."""


def estimate_power(design: Design, delta: float) -> Power:
    """Estimate the power of a design with margin δ.

    Examples:
        >>> design = Design(num_forget=1000, num_non_members=5000, num_seeds=8, num_shadows=128)
        >>> round(estimate_power(design, delta=0.02).smallest_delta, 3)
        0.02
    """
    return Power(
        half_width=expected_half_width(design),
        smallest_delta=smallest_delta(design),
        observable_leak=observable_leak(delta, design.num_shadows),
    )


def auc_deviation(num_forget: int, num_non_members: int) -> float:
    """Compute the standard deviation of an AUC of .5 over draws of the examples."""
    return sqrt((num_forget + num_non_members + 1) / (12 * num_forget * num_non_members))


def expected_half_width(design: Design) -> float:
    """Compute the expected half width of the gap's interval.

    With three seeds or more, the spread between seeds is estimated. With fewer, the interval covers the examples only.
    """
    num_seeds = design.num_seeds
    if num_seeds < SEEDS_FOR_T:
        return _example_quantile(design) * _example_deviation(design) / sqrt(num_seeds)
    freedom = num_seeds - 1
    # a standard deviation estimated from few values is too small on average
    bias = sqrt(2 / freedom) * float(np.exp(gammaln(num_seeds / 2) - gammaln(freedom / 2)))
    return float(student_t_quantile((1 + design.level) / 2, freedom)) * bias * _gap_deviation(design) / sqrt(num_seeds)


def smallest_delta(design: Design, chance: float = TARGET_POWER) -> float:
    """Find the smallest δ at which a method equal to Retrain is found equivalent with probability ``chance``."""
    error = _gap_deviation(design) / sqrt(design.num_seeds)

    low, high = 0.0, 100 * error
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if equivalence_probability(design, middle) < chance else (low, middle)
    return high


def equivalence_probability(design: Design, delta: float) -> float:
    """Compute how often a method equal to Retrain is found equivalent: |mean| + half width < δ, by all attacks.

    Correlated attacks agree more often, so it is a lower bound.
    """
    error = _gap_deviation(design) / sqrt(design.num_seeds)
    if design.num_seeds < SEEDS_FOR_T:
        half_widths = np.array([expected_half_width(design)])
    else:
        freedom = design.num_seeds - 1
        estimated = np.sqrt(chi2_quantile(_QUANTILES, freedom) / freedom)
        half_widths = student_t_quantile((1 + design.level) / 2, freedom) * estimated * error
    room = (delta - half_widths) / error
    return float(np.where(room > 0, 2 * normal_below(room) - 1, 0.0).mean()) ** design.num_attacks


def observable_leak(delta: float, num_shadows: int) -> float:
    """Compute LiRA's AUC − .5 with K shadow models, for a leak at which the best attack has AUC − .5 = δ.

    The best attack knows both Gaussians of an example exactly. They are Δ = √2 Φ⁻¹(.5 + δ) standard deviations apart.
    LiRA estimates their difference with variance 4/K and their centre with variance 1/K, and scores
    (difference) × (log-odds − centre). Its AUC is near Φ(d/√2) with d = Δ² / √(Δ²(1 + 2/K) + 4/K + 4/K²).

    The estimate ignores the error of estimated standard deviations, and assumes that all examples leak alike. If few
    examples leak much, LiRA's AUC is higher.
    """
    if not num_shadows:
        return 0.0
    distance = sqrt(2) * float(normal_quantile(0.5 + delta))
    variance = distance**2 * (1 + 2 / num_shadows) + 4 / num_shadows + 4 / num_shadows**2
    return float(normal_below(distance**2 / sqrt(variance) / sqrt(2))) - 0.5


def measure_spread(gaps: Sequence[Sequence[float]], num_forget: int, num_non_members: int) -> float | None:
    """Measure the standard deviation of gaps between seeds, beyond what the examples explain.

    Args:
        gaps: gaps of each method, one per seed.
        num_forget: number of forget examples.
        num_non_members: number of non-members.

    Returns:
        The deviation, or None if no method has enough seeds.
    """
    variances = [np.var(values, ddof=1) for values in gaps if len(values) >= SEEDS_FOR_T]
    if not variances:
        return None
    return max(0.0, float(np.mean(variances)) - 2 * auc_deviation(num_forget, num_non_members) ** 2) ** 0.5


def measure_smallest_delta(rows: Sequence[Row], sizes: Mapping[str, int]) -> float | None:
    """Find the smallest δ of a finished audit, with its attacks and the spread between seeds that its rows show.

    Args:
        rows: rows of the table.
        sizes: ``forget``, ``shadow_pool`` and ``shadows``.

    Returns:
        ``smallest_delta`` of the audit's design, or None without a gap.
    """
    gaps: dict[str, list[Sequence[float]]] = {}
    for row in rows:
        for name, found in row.attacks.items():
            if found.gap is not None:
                gaps.setdefault(name, []).append(found.gap.per_seed)
    if not gaps:
        return None
    num_forget, num_non_members = sizes["forget"], sizes["shadow_pool"]
    return smallest_delta(
        Design(
            num_forget=num_forget,
            num_non_members=num_non_members,
            num_seeds=max(len(values) for some in gaps.values() for values in some),
            num_shadows=sizes["shadows"],
            num_attacks=len(gaps),
            spread=measure_largest_spread(gaps, num_forget, num_non_members) or 0.0,
            level=next(row.verdict.gap.level for row in rows if row.verdict.gap is not None),
        )
    )


def measure_largest_spread(
    gaps: Mapping[str, Sequence[Sequence[float]]], num_forget: int, num_non_members: int
) -> float | None:
    """Return the largest ``measure_spread`` of several attacks, from the gaps of each; None without enough seeds."""
    found = [measure_spread(some, num_forget, num_non_members) for some in gaps.values()]
    return max((spread for spread in found if spread is not None), default=None)


def _example_deviation(design: Design) -> float:
    return sqrt(2) * auc_deviation(design.num_forget, design.num_non_members)


def _example_quantile(design: Design) -> float:
    """Return Student's t quantile of the examples, whose variance is estimated from two examples on."""
    forget, rest = (_Side(number) for number in (design.num_forget, design.num_non_members))
    if design.num_forget == 1:
        return float(normal_quantile((1 + design.level) / 2))
    doubt = forget.variance**2 / forget.freedom + rest.variance**2 / rest.freedom
    return float(student_t_quantile((1 + design.level) / 2, (forget.variance + rest.variance) ** 2 / doubt))


class _Side:
    """The forget examples, or the non-members, of an AUC of .5: variance that they cause, degrees of freedom."""

    def __init__(self, num_examples: int) -> None:
        self.variance = 1 / (12 * num_examples)
        self.freedom = max(1, num_examples - 1)


def _gap_deviation(design: Design) -> float:
    return sqrt(_example_deviation(design) ** 2 + design.spread**2)
