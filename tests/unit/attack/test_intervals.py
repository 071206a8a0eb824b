"""Coverage of the intervals in simulated audits with known truth."""

from __future__ import annotations

from math import sqrt

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from ungan_dist.attack.evidence import Interval
from ungan_dist.attack.intervals import (
    bootstrap,
    bootstrap_interval,
    draw_resample_counts,
    resample_share_above,
    resample_share_below,
    student_t_interval,
)
from ungan_dist.attack.metrics import tnr_at_fnr, tnr_rank, tpr_at_fpr, tpr_rank
from ungan_dist.attack.verdicts import decide_verdict


def interval(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, level=0.9, kind="student_t", per_seed=[])


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_seeded_interval_is_scipys(num_seeds):
    values = np.random.default_rng(num_seeds).normal(0.6, 0.1, num_seeds)
    found = student_t_interval(values.tolist(), 0.9)
    expected = t.interval(0.9, num_seeds - 1, values.mean(), values.std(ddof=1) / sqrt(num_seeds))
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-12)
    assert (found.kind, found.level, found.per_seed) == ("student_t", 0.9, values.tolist())


def test_equal_seeds_have_no_width():
    found = student_t_interval([0.25, 0.25, 0.25], 0.95)
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)


def test_an_interval_of_shares_stays_between_its_bounds():
    found = student_t_interval([1.0, 1.0, 0.7], 0.95, bounds=(0, 1))
    assert (found.low >= 0, found.high) == (True, 1.0)
    assert student_t_interval([1.0, 1.0, 0.7], 0.95).high > 1


@pytest.mark.parametrize("spread", [0, 1, 3])
@pytest.mark.parametrize("num_seeds", [3, 5])
def test_students_t_covers_another_seed(num_seeds, spread):
    """AUCs of 30 forget and 60 unseen examples; seeds shift the forget scores ``spread`` times the sampling error."""
    rng = np.random.default_rng(100 * num_seeds + spread)
    num_audits = 1500
    deviation = spread * 1.4 * sqrt(1 / 30 + 1 / 60)
    truth = norm.cdf(0.3 / sqrt(2 + deviation**2))
    shift = rng.normal(0.3, deviation, (num_audits, num_seeds, 1, 1))
    positive = rng.standard_normal((num_audits, num_seeds, 30, 1)) + shift
    aucs = np.stack([(p > rng.standard_normal((num_seeds, 1, 60))).mean((1, 2)) for p in positive])
    found = [student_t_interval(row.tolist(), 0.95) for row in aucs]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.93


@pytest.mark.parametrize("shift", [0.3, 1.5])
def test_the_interval_of_a_share_is_wide_enough_for_rare_events(shift):
    """TNR at 1 % FNR with 34 forget examples, as in ``digits``; a bootstrap by itself covers 18 % at shift 1.5."""
    rng = np.random.default_rng(5)
    truth, hits = norm.cdf(norm.ppf(0.01) + 1 - shift), []
    counts = [draw_resample_counts(640, 300, 0), draw_resample_counts(34, 300, 1)]
    for _ in range(300):
        retain, forget = rng.normal(1, 1, 640), rng.normal(shift, 1, 34)
        resamples = bootstrap(
            lambda r, f: resample_share_below(f, r, tnr_rank(0.01, 640))[None], (retain, forget), counts
        )
        found = bootstrap_interval([tnr_at_fnr(retain, forget, 0.01)], resamples, 0.95, num_examples=34)
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) >= 0.93


def test_a_share_of_zero_has_an_exact_interval():
    found = bootstrap_interval([0.0], np.zeros((1, 200)), 0.95, num_examples=34)
    assert found.high == pytest.approx(binomtest(0, 34).proportion_ci(0.95, "exact").high)
    wide = bootstrap_interval([0.5], np.linspace(0, 1, 200)[None], 0.95, num_examples=34)
    assert (wide.low, wide.high) == pytest.approx((0.025, 0.975))


def test_two_seeds_are_resampled_together():
    rng = np.random.default_rng(0)
    resamples = rng.normal(0.5, 0.1, (2, 4000))
    found = bootstrap_interval([0.4, 0.6], resamples, 0.95, num_examples=10_000)
    assert found.mean == 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.1 / sqrt(2), rel=0.05)
    assert found.kind == "bootstrap"


@given(st.integers(0, 500))
def test_resampled_statistics_are_the_metrics_of_the_resampled_examples(seed):
    rng = np.random.default_rng(seed)
    retain, forget, unseen = (rng.integers(-5, 5, size).astype(float) for size in (60, 17, 45))
    counts = [draw_resample_counts(len(scores), 9, seed + k) for k, scores in enumerate((retain, forget, unseen))]

    def statistics(r, f, u):
        return np.stack(
            [
                resample_share_below(f, r, tnr_rank(0.1, 60)),
                resample_share_above(f, u, tpr_rank(0.1, 45)),
                resample_share_below(f, u, 46 - tpr_rank(0.1, 45)),
            ]
        )

    found = bootstrap(statistics, (retain, forget, unseen), counts)
    for k in range(9):
        r, f, u = (np.repeat(s, c[k]) for s, c in zip((retain, forget, unseen), counts, strict=True))
        expected = [tnr_at_fnr(r, f, 0.1), tpr_at_fpr(f, u, 0.1), tpr_at_fpr(-f, -u, 0.1)]
        np.testing.assert_allclose(found[:, k], expected, atol=1e-12)


def test_resamples_do_not_depend_on_how_many_are_held_at_once(monkeypatch):
    scores = list(np.random.default_rng(0).standard_normal((2, 50)))
    counts = [draw_resample_counts(50, 101, seed) for seed in (1, 2)]
    whole = bootstrap(lambda p, n: resample_share_above(p, n, 45)[None], scores, counts)
    assert whole.shape == (1, 101)
    monkeypatch.setattr("ungan_dist.attack.intervals.RESAMPLES_AT_ONCE", 7)
    np.testing.assert_array_equal(bootstrap(lambda p, n: resample_share_above(p, n, 45)[None], scores, counts), whole)


def test_counts_are_draws_with_replacement():
    counts = draw_resample_counts(1000, 300, seed=3)
    np.testing.assert_array_equal(counts.sum(1, dtype=int), 1000)
    # Multinomial: variance 1 − 1/n, and a share (1 − 1/n)^n ≈ 1/e is left out.
    assert counts.var(dtype=float) == pytest.approx(0.999, abs=0.02)
    assert (counts == 0).mean() == pytest.approx(0.3677, abs=0.005)
    np.testing.assert_array_equal(counts, draw_resample_counts(1000, 300, seed=3))
    assert (counts != draw_resample_counts(1000, 300, seed=4)).any()


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.019, 0.019, "equivalent"),
        (0.005, 0.0199, "equivalent"),
        (-0.02, 0.01, "inconclusive"),  # the margin itself is outside
        (0.01, 0.02, "inconclusive"),
        (-0.3, 0.3, "inconclusive"),
        (0.02, 0.5, "under-forgotten"),
        (0.019, 0.5, "inconclusive"),
        (-0.4, -0.02, "over-forgotten"),
        (-0.4, -0.019, "inconclusive"),
    ],
)
def test_verdict(low, high, outcome):
    found = decide_verdict(interval(low, high), 0.02)
    assert found.outcome == outcome
    assert found.smallest_delta == max(abs(low), abs(high))


@given(st.floats(-0.5, 0.5), st.floats(0, 0.5), st.floats(0.001, 0.4))
def test_the_verdict_flips_with_the_sign(low, width, delta):
    turned = {"under-forgotten": "over-forgotten", "over-forgotten": "under-forgotten"}
    found = decide_verdict(interval(low, low + width), delta).outcome
    assert decide_verdict(interval(-low - width, -low), delta).outcome == turned.get(found, found)


@given(st.floats(-0.5, 0.5), st.floats(0, 0.5))
def test_any_larger_delta_than_the_smallest_passes(low, width):
    gap = interval(low, low + width)
    smallest = decide_verdict(gap, 0.1).smallest_delta
    assert smallest is not None
    passed = decide_verdict(gap, smallest + 1e-9).outcome
    # not even a perfect leak could lie beyond such a margin
    assert passed == ("equivalent" if width / 2 < 0.5 - (smallest + 1e-9) else "no power: the interval is too wide")
    if smallest > 0:
        assert decide_verdict(gap, smallest).outcome != "equivalent"


def test_the_reference_has_no_verdict():
    found = decide_verdict(None, 0.02)
    assert (found.outcome, found.gap, found.smallest_delta) == ("reference", None, None)


def test_bad_input_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production: only the package's checks
    with pytest.raises(ValueError, match="at least 3 seeds, got 2"):
        student_t_interval([0.5, 0.6], 0.95)
    with pytest.raises(ValueError, match="finite values"):
        student_t_interval([0.5, 0.6, float("nan")], 0.95)
    with pytest.raises(ValueError, match="level"):
        student_t_interval([0.5, 0.6, 0.7], 95)
    with pytest.raises(ValueError, match="one row of finite resamples"):
        bootstrap_interval([0.5, 0.6], np.zeros((1, 100)), 0.95, num_examples=10)
    with pytest.raises(ValueError, match="one row of finite resamples"):
        bootstrap_interval([0.5], np.full((1, 100), np.nan), 0.95, num_examples=10)
    with pytest.raises(ValueError, match="do not resample"):
        bootstrap(lambda s: s, (np.zeros(5),), (draw_resample_counts(4, 3, 0),))
    with pytest.raises(ValueError, match="delta"):
        decide_verdict(interval(0, 1), 0.0)
