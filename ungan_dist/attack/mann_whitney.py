"""Intervals of an AUC, or of a gap between two AUCs, that carry the variance of the examples at every size.

An AUC is a Mann–Whitney statistic: the mean of each forget example's placement, the share of non-members that score
lower. Its variance is the sum of the squared influences of the examples (DeLong, DeLong & Clarke-Pearson 1988). An
example that several seeds share counts once, with its mean influence. So the same formula serves a forget list, whose
examples are the same under every seed, and forget sets that each seed draws anew. Several unlearnings of one original
are averaged first. The spread between the averages holds the variance of both stages, whatever their shares are.

With few forget examples a variance cannot be estimated. Below ``FEW``, the interval is at least as wide as that of
forget examples whose placements are uniform, as without a leak, and independent of those of the other model.
``benchmarks/coverage.py`` simulates how often the intervals cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from ungan_dist.attack.distributions import normal_quantile, student_t_quantile
from ungan_dist.attack.evidence import Interval
from ungan_dist.attack.intervals import SEEDS_FOR_T
from ungan_dist.attack.metrics import auc

FEW = 20
"""Forget examples below which their own variance is not relied on alone."""


class Influence(NamedTuple):
    """An AUC, or a gap, under one seed, and how much each example of the pool moves it."""

    estimate: float
    forget: Float64[np.ndarray, " pool"]
    """Influence of each forget example; 0 elsewhere."""
    non_members: Float64[np.ndarray, " pool"]
    is_forget: np.ndarray
    is_non_member: np.ndarray

    def minus(self, other: Influence | float) -> Influence:
        """Return the gap to another model's AUC on the same examples, or to a number."""
        if not isinstance(other, Influence):
            return self._replace(estimate=self.estimate - other)
        return self._replace(
            estimate=self.estimate - other.estimate,
            forget=self.forget - other.forget,
            non_members=self.non_members - other.non_members,
        )


def measure_influence(
    scores: Float64[np.ndarray, " pool"], forget: Int[np.ndarray, " forget"], non_members: Int[np.ndarray, " rest"]
) -> Influence:
    """Compute the AUC of forget examples against non-members, and the influence of each example.

    Examples:
        >>> scores = np.array([2.0, 1.0, 0.5, 0.0])
        >>> found = measure_influence(scores, forget=np.array([0, 2]), non_members=np.array([1, 3]))
        >>> found.estimate, found.forget.tolist()
        (0.75, [0.125, 0.0, -0.125, 0.0])
    """
    positive, negative = scores[forget], scores[non_members]
    placements = _share_below(positive, negative)
    estimate = auc(positive, negative)
    influences = np.zeros((2, len(scores)))
    influences[0, forget] = (placements - estimate) / len(positive)
    influences[1, non_members] = (1 - _share_below(negative, positive) - estimate) / len(negative)
    chosen = np.zeros((2, len(scores)), dtype=bool)
    chosen[0, forget] = chosen[1, non_members] = True
    return Influence(estimate, influences[0], influences[1], chosen[0], chosen[1])


def average_influences(influences: Sequence[Influence]) -> Influence:
    """Average the influences of several models of one seed, such as the unlearnings of its original."""
    first, *others = influences
    if not others:
        return first
    return first._replace(
        estimate=float(np.mean([one.estimate for one in influences])),
        forget=np.mean([one.forget for one in influences], axis=0),
        non_members=np.mean([one.non_members for one in influences], axis=0),
    )


def measure_shared_variance(influences: Sequence[Influence]) -> float:
    """Measure the variance over examples of one model, or of what several models share: their mean covariance."""
    number, found = len(influences), 0.0
    for name, chosen in (("forget", "is_forget"), ("non_members", "is_non_member")):
        stacked = np.stack([getattr(one, name) for one in influences])
        num_examples = int(np.logical_or.reduce([getattr(one, chosen) for one in influences]).sum())
        total = float((stacked**2).sum())
        if number > 1:
            total = (float((stacked.sum(0) ** 2).sum()) - total) / (number * (number - 1))
        if num_examples > 1:
            found += max(0.0, total) * num_examples / (num_examples - 1)
    return found


def auc_interval(seeds: Sequence[Influence], level: float) -> Interval:
    """Compute the interval of the mean AUC over the seeds.

    With one or two seeds, it is about these models. It is never narrower than the interval that inverts the variance
    of Hanley & McNeil (1982), as Newcombe (2006) recommends, because an AUC near 1 has no measurable variance.
    """
    interval = _interval(seeds, level, num_models=1, bounds=(0.0, 1.0))
    sizes = (int(seeds[0].is_forget.sum()), int(seeds[0].is_non_member.sum()))
    return widen_extreme(interval, sizes, _variance_left_by_seeds(seeds))


def widen_extreme(interval: Interval, sizes: tuple[int, int], part: float = 1.0) -> Interval:
    """Widen the interval of an AUC near 0 or 1, which has no measurable variance, to Hanley and McNeil's.

    Args:
        interval: the interval.
        sizes: number of positives and negatives.
        part: part of their variance that counts.
    """
    scale = float(normal_quantile((1 + interval.level) / 2)) * sqrt(part)
    low, high = (_invert(interval.mean, sizes, scale, end) for end in (0.0, 1.0))
    return replace(interval, low=min(interval.low, low), high=max(interval.high, high))


def gap_interval(seeds: Sequence[Influence], level: float, *, num_models: int) -> Interval:
    """Compute the interval of the mean gap over the seeds.

    Args:
        seeds: the gap under each seed, from ``Influence.minus``.
        level: confidence level.
        num_models: 2 if the gap is to another model, 1 if it is to a number.
    """
    return _interval(seeds, level, num_models=num_models, bounds=(-1.0, 1.0))


class _Term(NamedTuple):
    """A part of the variance of a mean over seeds, and the degrees of freedom with which it was estimated."""

    variance: float
    freedom: float


def _interval(seeds: Sequence[Influence], level: float, *, num_models: int, bounds: tuple[float, float]) -> Interval:
    estimates = np.array([seed.estimate for seed in seeds])
    mean = float(estimates.mean())
    of_seeds = len(seeds) >= SEEDS_FOR_T
    spread = [_Term(float(estimates.var(ddof=1)) / len(seeds), len(seeds) - 1)] if of_seeds else []
    forget, *rest = _shared_terms(seeds)
    # never narrower than Student's t, although more terms have more degrees of freedom
    half_width = max(_half_width([*spread, forget, *rest], level), _half_width(spread, level))
    num_forget = int(seeds[0].is_forget.sum())
    if num_forget < FEW:
        part = _shared_part(seeds) if of_seeds else _variance_left_by_seeds(seeds)
        least = _Term(num_models * part / (12 * num_forget), inf)
        half_width = max(half_width, _half_width([*spread, max(forget, least), *rest], level))
    low, high = bounds
    return Interval(
        mean=mean,
        low=max(low, mean - half_width),
        high=min(high, mean + half_width),
        level=level,
        kind="student_t" if of_seeds else "examples",
        per_seed=estimates.tolist(),
    )


def _half_width(terms: Sequence[_Term], level: float) -> float:
    """Compute Student's t half width, with Welch's and Satterthwaite's degrees of freedom."""
    variance = sum(term.variance for term in terms)
    doubt = sum(term.variance**2 / term.freedom for term in terms if term.variance)
    if not variance:
        return 0.0
    quantile = student_t_quantile((1 + level) / 2, variance**2 / doubt) if doubt else normal_quantile((1 + level) / 2)
    return float(quantile) * sqrt(variance)


def _shared_terms(seeds: Sequence[Influence]) -> list[_Term]:
    """Compute the variances that the examples of several seeds cause: of forget examples, and of non-members.

    Where an example is forgotten under one seed and a non-member under another, its score moves the two in opposite
    directions. One term then holds both sets, so that these cancel.
    """
    forgotten, others = ([seed.is_forget for seed in seeds], [seed.is_non_member for seed in seeds])
    if (np.logical_or.reduce(forgotten) & np.logical_or.reduce(others)).any():
        chosen = [one | other for one, other in zip(forgotten, others, strict=True)]
        return [_shared_term([seed.forget + seed.non_members for seed in seeds], chosen)]
    return [
        _shared_term([seed.forget for seed in seeds], forgotten),
        _shared_term([seed.non_members for seed in seeds], others),
    ]


def _shared_term(influences: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> _Term:
    """Compute the variance of the mean over seeds that one set of examples causes.

    With one or two seeds, this is all of it. With more, the spread between seeds holds each seed's own part, and the
    mean covariance of two seeds, which their common examples cause, is what the spread does not show.
    """
    num_seeds, stacked = len(influences), np.stack(influences)
    num_examples = int(np.logical_or.reduce(chosen).sum())
    if num_examples < 2:
        return _Term(0.0, 1.0)
    total = float((stacked.sum(0) ** 2).sum())
    variance = total / num_seeds**2
    if num_seeds >= SEEDS_FOR_T:
        variance = (total - float((stacked**2).sum())) / (num_seeds * (num_seeds - 1))
    return _Term(max(0.0, variance) * num_examples / (num_examples - 1), num_examples - 1)


def _shared_part(seeds: Sequence[Influence]) -> float:
    """Return the part of a seed's forget examples that another seed has too, less those that it has as non-members."""
    num_seeds = len(seeds)
    if num_seeds < 2:
        return 1.0
    counts = np.sum([seed.is_forget for seed in seeds], axis=0)
    opposite = counts * np.sum([seed.is_non_member for seed in seeds], axis=0)
    return max(0.0, float((counts * (counts - 1) - opposite).sum()) / (num_seeds - 1) / float(counts.sum()))


def _variance_left_by_seeds(seeds: Sequence[Influence]) -> float:
    """Return the variance of the mean over seeds relative to that of one seed: 1 for a list, less for new draws."""
    return (1 + (len(seeds) - 1) * _shared_part(seeds)) / len(seeds)


def _invert(estimate: float, sizes: tuple[int, int], scale: float, end: float) -> float:
    """Find the AUC between the estimate and an end that is as far from the estimate as its own error allows."""
    near, far = estimate, end
    for _ in range(60):
        middle = (near + far) / 2
        within = abs(estimate - middle) < scale * sqrt(_hanley_mcneil(middle, *sizes))
        near, far = (middle, far) if within else (near, middle)
    return far


def _hanley_mcneil(value: float, num_forget: int, num_non_members: int) -> float:
    """Compute the variance of an AUC, with the larger of the two models' variances on both sides."""
    placement = max(value / (2 - value), 2 * value**2 / (1 + value)) - value**2
    pairs = num_forget * num_non_members
    return (value * (1 - value) + (num_forget + num_non_members - 2) * placement) / pairs


def _share_below(scores: np.ndarray, others: np.ndarray) -> Float64[np.ndarray, " scores"]:
    """Return for each score the share of the others that are lower; ties count half."""
    ordered = np.sort(others)
    ranks = sum(np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray(ranks, dtype=np.float64) / (2 * len(others))
