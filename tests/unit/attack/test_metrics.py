"""Order statistics against brute force over every threshold, and against scikit-learn."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics

from ungan_dist.attack.metrics import (
    auc,
    examples_needed,
    operating_point,
    roc_curve,
    tnr_at_fnr,
    tpr_at_fpr,
)

# Few distinct values, so that ties are common.
tied = st.integers(1, 60).flatmap(lambda n: arrays(np.float64, n, elements=st.integers(-4, 4).map(float)))
plenty = st.integers(20, 60).flatmap(lambda n: arrays(np.float64, n, elements=st.integers(-9, 9).map(float)))
rates = st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.7])


def sklearn_curve(positive, negative):
    labels = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return labels, np.concatenate([positive, negative])


@given(tied, tied)
def test_auc_counts_pairs(positive, negative):
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    assert auc(positive, negative) == pytest.approx(wins, abs=1e-12)
    assert auc(positive, negative) == pytest.approx(1 - auc(negative, positive), abs=1e-15)
    assert auc(positive, negative) == pytest.approx(
        sklearn_metrics.roc_auc_score(*sklearn_curve(positive, negative)), abs=1e-12
    )


@given(tied, tied)
def test_roc_curve_is_scikit_learns_with_every_point(positive, negative):
    fpr, tpr = roc_curve(positive, negative)
    expected = sklearn_metrics.roc_curve(*sklearn_curve(positive, negative), drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0], atol=1e-12)
    np.testing.assert_allclose(tpr, expected[1], atol=1e-12)
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc(positive, negative), abs=1e-12)


@given(plenty, plenty, rates)
def test_tpr_is_the_best_of_all_thresholds_within_the_rate(positive, negative, fpr):
    thresholds = np.append(np.concatenate([positive, negative]), -np.inf)
    # Counts, not shares, decide: 0.3 * 10 is below 3 in binary.
    percent = round(fpr * 100)
    feasible = [t for t in thresholds if (negative > t).sum() * 100 < percent * len(negative)]
    assert tpr_at_fpr(positive, negative, fpr) == max((positive > t).mean() for t in feasible)
    curve = sklearn_metrics.roc_curve(*sklearn_curve(positive, negative), drop_intermediate=False)
    assert tpr_at_fpr(positive, negative, fpr) == pytest.approx(curve[1][curve[0] < fpr - 1e-9].max(), abs=1e-12)


@given(plenty, plenty, rates)
def test_tnr_is_the_best_of_all_thresholds_that_lose_fewer_members(members, nonmembers, fnr):
    percent = round(fnr * 100)
    feasible = [t for t in np.append(members, np.inf) if (members < t).sum() * 100 < percent * len(members)]
    # No threshold between two members' scores allows more: only a member's own score is tried, as defined.
    point = operating_point(members, nonmembers, fnr)
    assert point.threshold == max(feasible)
    assert point.tnr == tnr_at_fnr(members, nonmembers, fnr) == (nonmembers < max(feasible)).mean()
    assert point.fnr == (members < point.threshold).mean()
    assert point.fnr < fnr


@given(plenty, plenty, rates, st.sampled_from([lambda s: 3 * s - 7, np.exp, lambda s: s**3]))
def test_increasing_transforms_change_nothing(positive, negative, rate, transform):
    for metric in (lambda a, b: tpr_at_fpr(a, b, rate), lambda a, b: tnr_at_fnr(a, b, rate), auc):
        assert metric(transform(positive), transform(negative)) == metric(positive, negative)


def test_order_statistics_by_hand():
    members = np.arange(1.0, 201.0)
    # k = ⌈.01 · 200⌉ − 1 = 1: below the second smallest.
    point = operating_point(members, np.array([0.0, 1.0, 1.5, 2.0, 50.0]), 0.01)
    assert (point.threshold, point.fnr, point.tnr) == (2.0, 0.005, 0.6)
    # ⌈.01 · 200⌉ − 1 = 1 false positive: above the second largest.
    assert tpr_at_fpr(np.array([198.5, 199.0, 199.5, 300.0]), members, 0.01) == 0.5


def test_rates_are_decimal_numbers():
    # 0.07 · 100 is 7.000000000000001 in binary, 0.29 · 100 is 28.999999999999996.
    scores = np.arange(100.0)
    assert operating_point(scores, scores, 0.07).threshold == 6.0
    assert tpr_at_fpr(scores, scores, 0.29) == 0.28
    assert examples_needed(0.001) == 1000
    assert examples_needed(0.3) == 4


def test_too_few_examples_are_reported_with_the_number_needed():
    scores = np.arange(999.0)
    with pytest.raises(ValueError, match="at least 1,000 members, got 999"):
        tnr_at_fnr(scores, scores, 0.001)
    with pytest.raises(ValueError, match="at least 1,000 negatives, got 999"):
        tpr_at_fpr(scores, scores, 0.001)
    assert tnr_at_fnr(np.arange(1000.0), np.array([-1.0, 0.0]), 0.001) == 0.5


def test_all_tied_rejects_nobody():
    ties = np.zeros(100)
    assert tnr_at_fnr(ties, ties, 0.01) == 0.0
    assert tpr_at_fpr(ties, ties, 0.01) == 0.0
    assert auc(ties, ties) == 0.5


def test_infinite_scores_have_an_order():
    assert auc(np.array([np.inf, 0.0]), np.array([-np.inf, 0.0])) == 0.875


def test_bad_scores_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production: only the package's checks
    good = np.arange(100.0)
    for bad in (np.array([np.nan, 1.0]), np.array([]), np.zeros((2, 2))):
        with pytest.raises(ValueError, match=r"scores (are NaN|must be one-dimensional)|are NaN"):
            auc(bad, good)
        with pytest.raises(ValueError, match=r"scores (are NaN|must be one-dimensional)|are NaN"):
            tnr_at_fnr(good, bad, 0.1)
    for rate in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            tpr_at_fpr(good, good, rate)


def test_curve_of_gaussian_scores_follows_theory():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1, 1, 200_000), rng.normal(0, 1, 200_000)
    assert auc(positive, negative) == pytest.approx(0.760250, abs=0.003)  # Φ(1/√2)
    assert tpr_at_fpr(positive, negative, 0.01) == pytest.approx(0.092361, abs=0.004)  # Φ(1 − 2.3263)
    assert auc(np.exp(positive / 10), np.exp(negative / 10)) == auc(positive, negative)
