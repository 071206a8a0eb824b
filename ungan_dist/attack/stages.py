"""Variance by stage: originals, unlearnings of one original, and the examples that a seed draws.

The value of unlearning j of original i is μ + aᵢ + bᵢⱼ (one-way random effects). The spread within originals estimates
the variance of b. The spread between the means of the originals is the variance of a, plus that of b over the number of
unlearnings, plus that of the examples that each seed draws anew. The influences of the examples give the latter; see
:mod:`ungan_dist.attack.mann_whitney`. Balanced data give the estimates of REML, unless one of them would be negative.

An interval is that of Ting, Burdick, Graybill, Jeyaratnam and Lu (1990) for a difference of mean squares.
``tests/unit/attack/test_stages.py`` simulates how often it covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from ungan_dist.attack.distributions import chi2_quantile, chi2_upper_quantile, f_quantile, f_upper_quantile
from ungan_dist.attack.evidence import Deviation, Evidence, StageSplit
from ungan_dist.attack.mann_whitney import Influence, average_influences, measure_shared_variance

LEVEL = 0.95
"""Confidence level of a standard deviation's interval."""
Key = tuple[str, int]
"""Method and seed."""


class Sampling(NamedTuple):
    """What other examples would change in the same models."""

    variance: float
    between_seeds: float
    """The part that seeds do not share: all of it if each seed draws its own examples, none with a list."""
    freedom: int


class _Term(NamedTuple):
    """A mean square, with its factor in a variance and its degrees of freedom."""

    value: float
    freedom: float


def split_stages(values: Sequence[Sequence[float]], sampling: Sampling | None = None) -> StageSplit | None:
    """Split the variance of a statistic by stage.

    Args:
        values: the statistic of each seed's unlearnings.
        sampling: variance over examples, if it is known. It is otherwise part of the originals.

    Returns:
        The split, or None if no seed has two unlearnings.

    Examples:
        >>> split = split_stages([[0.50, 0.52], [0.60, 0.62], [0.55, 0.57]])
        >>> round(split.originals.value, 3), round(split.unlearnings.value, 3)
        (0.049, 0.014)
    """
    freedom = sum(len(of) - 1 for of in values)
    if not freedom:
        return None
    within = _Term(sum(float(np.var(of)) * len(of) for of in values) / freedom, freedom)
    originals = None
    if len(values) > 1:
        between = _Term(float(np.var([np.mean(of) for of in values], ddof=1)), len(values) - 1)
        share = float(np.mean([1 / len(of) for of in values]))
        taken = [within._replace(value=share * within.value)]
        if sampling is not None:
            taken.append(_Term(sampling.between_seeds, sampling.freedom))
        originals = _deviate(between, taken)
    return StageSplit(
        originals=originals,
        unlearnings=_deviate(within, []),
        forget_sets=None if sampling is None else _deviate(_Term(sampling.variance, sampling.freedom), []),
        values=[list(map(float, of)) for of in values],
    )


def _deviate(whole: _Term, taken: Sequence[_Term]) -> Deviation:
    """Estimate the root of a mean square minus others, with the interval of Ting et al.; negative values become 0."""
    error = (1 - LEVEL) / 2
    variance = whole.value - sum(term.value for term in taken)
    below = _shrink(whole, error) ** 2 * whole.value**2
    above = _grow(whole, error) ** 2 * whole.value**2
    for term in taken:
        below += _grow(term, error) ** 2 * term.value**2 + _cross_below(whole, term, error) * whole.value * term.value
        above += _shrink(term, error) ** 2 * term.value**2 + _cross_above(whole, term, error) * whole.value * term.value
    ends = (variance, variance - sqrt(max(0.0, below)), variance + sqrt(max(0.0, above)))
    value, low, high = (sqrt(max(0.0, end)) for end in ends)
    return Deviation(value=value, low=low, high=high)


def _shrink(term: _Term, error: float) -> float:
    return 1 - term.freedom / float(chi2_upper_quantile(error, term.freedom))


def _grow(term: _Term, error: float) -> float:
    return term.freedom / float(chi2_quantile(error, term.freedom)) - 1


def _cross_below(whole: _Term, term: _Term, error: float) -> float:
    ratio = float(f_upper_quantile(error, whole.freedom, term.freedom))
    return ((ratio - 1) ** 2 - _shrink(whole, error) ** 2 * ratio**2 - _grow(term, error) ** 2) / ratio


def _cross_above(whole: _Term, term: _Term, error: float) -> float:
    ratio = float(f_quantile(error, whole.freedom, term.freedom))
    return ((1 - ratio) ** 2 - _grow(whole, error) ** 2 * ratio**2 - _shrink(term, error) ** 2) / ratio


def measure_sampling(seeds: Sequence[Sequence[Influence]]) -> Sampling:
    """Measure the variance over examples from the influences of each seed's unlearnings.

    Where a seed has several unlearnings, it is their mean covariance: noise of a single one is no matter of examples.
    """
    of_seeds = [measure_shared_variance(of) for of in seeds]
    shared = measure_shared_variance([average_influences(of) for of in seeds]) if len(seeds) > 1 else 0.0
    variance = float(np.mean(of_seeds))
    freedom = min(int(of[0].is_forget.sum()) for of in seeds) - 1
    return Sampling(variance, max(0.0, variance - shared), max(1, freedom))


def split_row(
    method: str,
    reference: str,
    models: Mapping[Key, Sequence[Evidence]],
    influences: Mapping[Key, Sequence[Influence]],
) -> dict[str, StageSplit]:
    """Split a method's AUC, its gap and its accuracies by stage; empty with one unlearning an original.

    Args:
        method: the method.
        reference: the method that gaps are measured from.
        models: the unlearnings of each method and seed.
        influences: those on the AUC of the first attack, in the same order.
    """
    seeds = [seed for one, seed in models if one == method]
    own = [list(influences[method, seed]) for seed in seeds]
    found = {"auc": _split_influences(own)}
    if method != reference:
        partners = [list(influences.get((reference, seed), ())) for seed in seeds]
        gaps = [
            [one.minus(other) for one, other in zip(here, there, strict=False)]
            for here, there in zip(own, partners, strict=True)
        ]
        found["gap"] = _split_influences([gap for gap in gaps if gap])
    for name in models[method, seeds[0]][0].accuracy:
        values = [[item.accuracy[name] for item in models[method, seed]] for seed in seeds]
        found[f"accuracy_{name}"] = split_stages(values)
    return {name: split for name, split in found.items() if split is not None}


def _split_influences(seeds: Sequence[Sequence[Influence]]) -> StageSplit | None:
    if not seeds or max(map(len, seeds)) < 2:
        return None
    return split_stages([[one.estimate for one in of] for of in seeds], measure_sampling(seeds))
