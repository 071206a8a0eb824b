"""What an audit can hope to conclude before it is run: the gap's interval, the δ it can pass, the leak it can see.

Two methods' AUC (b) are compared under every seed, each a Mann–Whitney statistic over |D_f| forget and |D^s| never-seen
examples. At AUC .5 its variance is (|D_f| + |D^s| + 1) / (12 |D_f| |D^s|) (Hanley and McNeil 1982 at .5, where it is
exact). The gap's is twice that: the two methods' errors on the same examples are taken to be independent, which is the
careful side. What seeds differ by beyond their examples is added where a finished run shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import gammaln
from scipy.stats import chi2, norm
from scipy.stats import t as student_t

from ungan_dist.attack.intervals import SEEDS_FOR_T
from ungan_dist.attack.score import VERDICT_LEVEL
from ungan_dist.config.checks import not_negative, positive

TARGET_POWER = 0.80
"""With which a method that equals Retrain is to be found equivalent."""
_QUANTILES = (np.arange(400) + 0.5) / 400


@dataclass(frozen=True, kw_only=True)
class Design:
    """What the power of an audit depends on."""

    num_forget: int
    """|D_f|."""
    num_non_members: int
    """|D^s|."""
    num_seeds: int
    num_shadows: int
    """K."""
    spread: float = 0.0
    """Standard deviation of the gap between seeds beyond what the examples explain, in AUC."""

    def __post_init__(self) -> None:
        positive(
            num_forget=self.num_forget,
            num_non_members=self.num_non_members,
            num_seeds=self.num_seeds,
            num_shadows=self.num_shadows,
        )
        not_negative(spread=self.spread)


@dataclass(frozen=True, kw_only=True)
class Power:
    """What a design can show; all in AUC."""

    half_width: float
    """Expected half width of the gap's 90 % interval."""
    smallest_delta: float
    """The smallest δ that a method equal to Retrain passes in four runs of five."""
    observable_leak: float
    """How far from .5 LiRA with K shadow models puts a leak that the best attack would put δ from .5."""


def estimate_power(design: Design, delta: float) -> Power:
    """The power of a design whose margin is δ.

    Examples:
        >>> design = Design(num_forget=1000, num_non_members=5000, num_seeds=8, num_shadows=128)
        >>> round(estimate_power(design, delta=0.02).smallest_delta, 3)
        0.016
    """
    return Power(
        half_width=expected_half_width(design),
        smallest_delta=smallest_delta(design),
        observable_leak=observable_leak(delta, design.num_shadows),
    )


def auc_deviation(num_forget: int, num_non_members: int) -> float:
    """Standard deviation of an AUC at .5, over draws of the examples."""
    return sqrt((num_forget + num_non_members + 1) / (12 * num_forget * num_non_members))


def expected_half_width(design: Design) -> float:
    """Of the gap's interval: Student's t from three seeds on; below, a bootstrap, which sees the examples alone."""
    num_seeds = design.num_seeds
    if num_seeds < SEEDS_FOR_T:
        return float(norm.ppf((1 + VERDICT_LEVEL) / 2)) * _of_examples(design) / sqrt(num_seeds)
    freedom = num_seeds - 1
    # the mean of a standard deviation estimated from so few is smaller than the true one
    bias = sqrt(2 / freedom) * float(np.exp(gammaln(num_seeds / 2) - gammaln(freedom / 2)))
    return float(student_t.ppf((1 + VERDICT_LEVEL) / 2, freedom)) * bias * _of_gap(design) / sqrt(num_seeds)


def smallest_delta(design: Design, chance: float = TARGET_POWER) -> float:
    """The δ for which a method that equals Retrain is found equivalent with a given chance."""
    error = _of_gap(design) / sqrt(design.num_seeds)

    low, high = 0.0, 100 * error
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if equivalence_probability(design, middle) < chance else (low, middle)
    return high


def equivalence_probability(design: Design, delta: float) -> float:
    """How often a method that equals Retrain gets the verdict *equivalent*: |mean| + half width < δ."""
    error = _of_gap(design) / sqrt(design.num_seeds)
    if design.num_seeds < SEEDS_FOR_T:
        half_widths = np.array([expected_half_width(design)])
    else:
        freedom = design.num_seeds - 1
        estimated = np.sqrt(chi2.ppf(_QUANTILES, freedom) / freedom)
        half_widths = student_t.ppf((1 + VERDICT_LEVEL) / 2, freedom) * estimated * error
    room = (delta - half_widths) / error
    return float(np.where(room > 0, 2 * norm.cdf(room) - 1, 0.0).mean())


def observable_leak(delta: float, num_shadows: int) -> float:
    """How much of a leak the attack shows with so many shadow models.

    A leak of AUC .5 + δ to an attack that knows both Gaussians of an example exactly is a difference of
    Δ = √2 Φ⁻¹(.5 + δ) standard deviations between them. LiRA estimates their difference with variance 4/K and their
    centre with 1/K, and scores (difference) × (log-odds − centre); its AUC is then near Φ(d/√2) with
    d = Δ² / √(Δ²(1 + 2/K) + 4/K + 4/K²). The error of an estimated standard deviation is left out, and every example
    leaks alike: where few examples leak much, more is seen than this says.

    Returns:
        The AUC's distance from .5.
    """
    distance = sqrt(2) * float(norm.ppf(0.5 + delta))
    variance = distance**2 * (1 + 2 / num_shadows) + 4 / num_shadows + 4 / num_shadows**2
    return float(norm.cdf(distance**2 / sqrt(variance) / sqrt(2))) - 0.5


def _of_examples(design: Design) -> float:
    return sqrt(2) * auc_deviation(design.num_forget, design.num_non_members)


def _of_gap(design: Design) -> float:
    return sqrt(_of_examples(design) ** 2 + design.spread**2)
