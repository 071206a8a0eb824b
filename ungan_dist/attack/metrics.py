"""Metrics of attack scores: TNR at a fixed FNR, TPR at a fixed FPR, AUC. Exact order statistics, no interpolation.

Scores are one-dimensional NumPy arrays, torch tensors or lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from jaxtyping import Float64

from ungan_dist.attack.arrays import Values, describe, to_numpy


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold and its error rates."""

    tnr: float
    """Share of non-members rejected."""
    fnr: float
    """Share of members rejected, as achieved."""
    threshold: float
    """Scores below it are rejected."""


def operating_point(member_scores: Values, nonmember_scores: Values, fnr: float) -> OperatingPoint:
    """Reject as many scores as possible while fewer than ``fnr`` of the members are rejected.

    The members' scores are m_1 ≤ … ≤ m_n, and k = ⌈fnr · n⌉ − 1. A score below m_{k+1} is rejected. Members tied with
    the threshold are kept, so at most k are rejected.

    Raises:
        ValueError: there are fewer than 1/fnr members, so no threshold rejects any.

    Source: the metric of the UnGAN paper's Table 1.

    Examples:
        >>> point = operating_point(np.arange(100), np.array([-1, 0, 50]), fnr=0.01)
        >>> point.threshold, point.fnr, round(point.tnr, 3)
        (0.0, 0.0, 0.333)
    """
    members, nonmembers = _scores("member", member_scores), _scores("non-member", nonmember_scores)
    threshold = np.sort(members)[tnr_rank(fnr, len(members)) - 1]
    return OperatingPoint(
        tnr=float((nonmembers < threshold).mean()),
        fnr=float((members < threshold).mean()),
        threshold=float(threshold),
    )


def tnr_at_fnr(member_scores: Values, nonmember_scores: Values, fnr: float) -> float:
    """Return the share of non-members that ``operating_point`` rejects.

    Examples:
        >>> tnr_at_fnr(np.arange(10), np.array([-2, -1, 0, 5]), fnr=0.1)
        0.5
    """
    return operating_point(member_scores, nonmember_scores, fnr).tnr


def tpr_at_fpr(positive: Values, negative: Values, fpr: float) -> float:
    """Return the share of positives above a threshold that fewer than ``fpr`` of the negatives exceed.

    The threshold is the ⌈fpr · n⌉-th largest negative score. Ties with it count as negative. As in Carlini's code, the
    false positive rate is below ``fpr`` and never equal to it.

    Raises:
        ValueError: there are fewer than 1/fpr negatives.

    Examples:
        >>> tpr_at_fpr(np.array([8, 9, 20]), np.arange(10), fpr=0.1)
        0.3333333333333333
    """
    positives, negatives = _scores("positive", positive), _scores("negative", negative)
    threshold = np.sort(negatives)[tpr_rank(fpr, len(negatives)) - 1]
    return float((positives > threshold).mean())


def auc(positive: Values, negative: Values) -> float:
    """Return the probability that a positive scores higher than a negative. Ties count half.

    Examples:
        >>> auc(np.array([1, 2]), np.array([0, 1]))
        0.875
    """
    positives, negatives = _scores("positive", positive), np.sort(_scores("negative", negative))
    twice_wins = sum(int(np.searchsorted(negatives, positives, side).sum()) for side in ("left", "right"))
    return twice_wins / (2 * len(positives) * len(negatives))


def roc_curve(
    positive: Values, negative: Values
) -> tuple[Float64[np.ndarray, " thresholds"], Float64[np.ndarray, " thresholds"]]:
    """Return false and true positive rates from (0, 0) to (1, 1), one point for each distinct score.

    Examples:
        >>> roc_curve(np.array([1, 2]), np.array([0, 1]))
        (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]))
    """
    positives, negatives = np.sort(_scores("positive", positive)), np.sort(_scores("negative", negative))
    thresholds = np.unique(np.concatenate([positives, negatives]))[::-1]
    fpr, tpr = (
        np.concatenate([[0.0], 1 - np.searchsorted(values, thresholds, "left") / len(values)])
        for values in (negatives, positives)
    )
    return fpr, tpr


def examples_needed(rate: float) -> int:
    """Return the smallest number of examples at which an error rate is defined: 1/rate.

    Examples:
        >>> examples_needed(0.001)
        1000
    """
    return ceil(1 / _exact(rate))


def tnr_rank(fnr: float, num_members: int) -> int:
    """Return the rank, from 1 in ascending order, of the member score that is ``operating_point``'s threshold.

    Examples:
        >>> tnr_rank(0.01, 250)
        3
    """
    return ceil(_expected_errors("fnr", fnr, "members", num_members))


def tpr_rank(fpr: float, num_negatives: int) -> int:
    """Return the rank, from 1 in ascending order, of the negative score that is ``tpr_at_fpr``'s threshold.

    Examples:
        >>> tpr_rank(0.01, 250)
        248
    """
    return num_negatives + 1 - ceil(_expected_errors("fpr", fpr, "negatives", num_negatives))


def _expected_errors(name: str, rate: float, group: str, num_examples: int) -> Fraction:
    if not 0 < rate < 1:
        raise ValueError(f"{name} must lie between 0 and 1, both excluded, got {rate}")
    errors = _exact(rate) * num_examples
    if errors < 1:
        raise ValueError(f"{name} {rate} needs at least {examples_needed(rate):,} {group}, got {num_examples:,}")
    return errors


def _exact(rate: float) -> Fraction:
    # The rate as written: in binary, 0.07 * 100 exceeds 7 and would be rounded up to 8.
    return Fraction(str(float(rate)))


def _scores(name: str, scores: Values) -> np.ndarray:
    values = to_numpy(f"{name} scores", scores)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} scores must be one-dimensional and not empty, got {describe(scores)}")
    num_nan = int(np.isnan(values).sum())
    if num_nan:
        raise ValueError(f"{num_nan} of {len(values)} {name} scores are NaN: they have no order")
    return values
