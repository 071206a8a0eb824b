"""Intervals of shares: Student's t over seeds, or a bootstrap over examples if there are few seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, UInt8

from ungan_dist.attack.arrays import Values, describe, to_numpy
from ungan_dist.attack.distributions import exact_share_interval, normal_quantile, student_t_quantile
from ungan_dist.attack.evidence import Interval

SEEDS_FOR_T = 3
"""Smallest number of seeds for Student's t. A bootstrap of so few seeds would cover 74–89 % for a nominal 95."""
RESAMPLES_AT_ONCE = 100
"""Resamples per chunk. The cumulative counts of a large audit then need about ten megabytes."""


def student_t_interval(per_seed: Values, level: float, *, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """Compute Student's t interval of the mean over seeds, which includes the variation between seeds.

    Args:
        per_seed: the statistic under each seed.
        level: confidence level.
        bounds: smallest and largest value that the mean can have, such as 0 and 1 for a share.

    Raises:
        ValueError: there are fewer than three seeds, a value is not finite, or the level is outside (0, 1).

    Examples:
        >>> interval = student_t_interval([0.51, 0.52, 0.53], level=0.95)
        >>> round(interval.low, 3), round(interval.high, 3)
        (0.495, 0.545)
    """
    values = _to_values(per_seed, level)
    if len(values) < SEEDS_FOR_T:
        raise ValueError(f"Student's t needs at least {SEEDS_FOR_T} seeds, got {len(values)}: use bootstrap_interval")
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / sqrt(len(values))
    half = float(student_t_quantile((1 + level) / 2, len(values) - 1)) * error
    return Interval(
        mean=mean,
        low=max(bounds[0], mean - half),
        high=min(bounds[1], mean + half),
        level=level,
        kind="student_t",
        per_seed=values.tolist(),
    )


def bootstrap_interval(
    per_seed: Values,
    resamples: Values,
    level: float,
    *,
    num_examples: int,
) -> Interval:
    """Compute a percentile interval of a mean share over one or two seeds. It holds for these models only.

    Args:
        per_seed: the share on the examples themselves.
        resamples: the share on resampled examples, [seeds, resamples], from ``bootstrap``.
        num_examples: the number of different examples over all seeds. The interval is widened to Clopper and
            Pearson's, because a bootstrap of 0 in n has no width. At n = 34 it covered 18–43 %.

    Examples:
        >>> interval = bootstrap_interval([0.5], np.linspace(0.4, 0.6, 101)[None], level=0.9, num_examples=1000)
        >>> round(interval.low, 2), round(interval.high, 2)
        (0.41, 0.59)
    """
    values, drawn = _to_values(per_seed, level), to_numpy("resamples", resamples).astype(np.float64, copy=False)
    if drawn.ndim != 2 or len(drawn) != len(values) or not np.isfinite(drawn).all():
        raise ValueError(
            f"one row of finite resamples per seed is needed: {len(values)} seeds, resamples are {describe(resamples)}"
        )
    low, high = np.quantile(drawn.mean(0), [(1 - level) / 2, (1 + level) / 2])
    num_hits = round(float(np.mean(values)) * num_examples)
    exact = exact_share_interval(num_hits, num_examples, level)
    low, high = min(low, exact[0]), max(high, exact[1])
    return Interval(
        mean=float(np.mean(values)),
        low=float(low),
        high=float(high),
        level=level,
        kind="bootstrap",
        per_seed=values.tolist(),
    )


def share_difference_interval(first: Values, second: Values, num_examples: int, level: float) -> Interval:
    """Compute Agresti and Caffo's interval of the difference of two shares, over one or two seeds.

    The shares of each seed are taken as independent, which is conservative if they are of the same examples.

    Args:
        first: shares, one per seed.
        second: the shares that are subtracted.
        num_examples: number of examples behind each share.
        level: confidence level.

    Examples:
        >>> interval = share_difference_interval([0.9], [0.8], num_examples=200, level=0.90)
        >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
        (0.1, 0.041, 0.157)
    """
    shares = np.stack([_to_values(first, level), _to_values(second, level)])
    differences = shares[0] - shares[1]
    adjusted = (shares * num_examples + 1) / (num_examples + 2)
    center = float(np.mean(adjusted[0] - adjusted[1]))
    error = sqrt(float((adjusted * (1 - adjusted)).sum())) / shares.shape[1] / sqrt(num_examples + 2)
    half = float(normal_quantile((1 + level) / 2)) * error
    return Interval(
        mean=float(np.mean(differences)),
        low=max(-1.0, center - half),
        high=min(1.0, center + half),
        level=level,
        kind="examples",
        per_seed=differences.tolist(),
    )


def draw_resample_counts(num_examples: int, num_resamples: int, seed: int) -> UInt8[np.ndarray, "resamples examples"]:
    """Draw how often each example of a set is in each resample, with replacement.

    Statistics under the same counts are paired by example.

    Examples:
        >>> draw_resample_counts(num_examples=4, num_resamples=2, seed=0).sum(axis=1)
        array([4, 4], dtype=uint64)
    """
    generator = np.random.Generator(np.random.Philox(seed))
    # Eight bits suffice: with more than 255 examples, a count is nearly Poisson with mean 1.
    counts = np.empty((num_resamples, num_examples), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(generator.integers(num_examples, size=num_examples), minlength=num_examples)
    return counts


class ResampledScores(NamedTuple):
    """Sorted scores and their resample counts, for order statistics and ranks."""

    values: Float64[np.ndarray, " examples"]
    """Ascending."""
    below: Int[np.ndarray, "resamples examples_plus_1"]
    """Number of draws among the first i values, for i = 0 … examples."""


Statistics = Callable[..., Float64[np.ndarray, "statistics resamples"]]


def bootstrap(
    statistics: Statistics,
    sets: Sequence[Values],
    counts: Sequence[Values],
) -> Float64[np.ndarray, "statistics resamples"]:
    """Compute statistics of resampled sets of scores. Each set is resampled within itself.

    Args:
        statistics: a function of one ``ResampledScores`` per set.
        sets: the scores of each set, one-dimensional.
        counts: one array of ``draw_resample_counts`` per set, [resamples, examples].

    Examples:
        >>> forget, non_members = np.array([0.2, 0.9, 0.7]), np.array([0.1, 0.3])
        >>> counts = [draw_resample_counts(len(scores), 100, seed=0) for scores in (forget, non_members)]
        >>> bootstrap(lambda a, b: resample_share_above(a, b, rank=2)[None], [forget, non_members], counts).shape
        (1, 100)
    """
    arrays = [to_numpy("scores", scores).astype(np.float64, copy=False) for scores in sets]
    draws = [to_numpy("counts", drawn) for drawn in counts]
    for scores, drawn in zip(arrays, draws, strict=True):
        if scores.ndim != 1 or drawn.shape[1:] != scores.shape or drawn.shape[0] != draws[0].shape[0]:
            raise ValueError(f"counts of shape {drawn.shape} do not resample scores of shape {scores.shape}")
    orders = [np.argsort(scores) for scores in arrays]
    parts: list[np.ndarray] = []
    for start in range(0, len(draws[0]), RESAMPLES_AT_ONCE):
        resampled: list[ResampledScores] = []
        for scores, order, drawn in zip(arrays, orders, draws, strict=True):
            chunk = drawn[start : start + RESAMPLES_AT_ONCE]
            below = np.zeros((len(chunk), len(scores) + 1), dtype=np.int32)
            np.cumsum(np.take(chunk, order, axis=1), axis=1, dtype=np.int32, out=below[:, 1:])
            resampled.append(ResampledScores(scores[order], below))
        parts.append(statistics(*resampled))
    return np.concatenate(parts, axis=1)


def resample_share_below(
    scores: ResampledScores, reference: ResampledScores, rank: int
) -> Float64[np.ndarray, " resamples"]:
    """Compute each resample's share of scores below the reference's rank-th smallest, counted from 1."""
    return _num_up_to(scores, reference, rank, "left") / len(scores.values)


def resample_share_above(
    scores: ResampledScores, reference: ResampledScores, rank: int
) -> Float64[np.ndarray, " resamples"]:
    """Compute each resample's share of scores above the reference's rank-th smallest, counted from 1."""
    return (len(scores.values) - _num_up_to(scores, reference, rank, "right")) / len(scores.values)


def _num_up_to(
    scores: ResampledScores, reference: ResampledScores, rank: int, side: Literal["left", "right"]
) -> np.ndarray:
    """Count the scores drawn below the threshold (left), or not above it (right)."""
    threshold = reference.values[(reference.below[:, 1:] < rank).sum(1)]
    places = np.searchsorted(scores.values, threshold, side)
    return scores.below[np.arange(len(places)), places]


def _to_values(per_seed: Values, level: float) -> Float64[np.ndarray, " seeds"]:
    values = to_numpy("per_seed", per_seed).astype(np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, one per seed, got {values.tolist()}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, both excluded, got {level}")
    return values
