"""Intervals of AUCs and gaps in simulated audits with known truth, and against DeLong's formula."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t

from ungan_dist.attack.mann_whitney import Influence, auc_interval, gap_interval, measure_influence
from ungan_dist.attack.metrics import auc


def placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean of wins over every pair, one for each score; ties count half."""
    wins = (scores[:, None] > others).astype(float) + (scores[:, None] == others) / 2
    return wins.mean(1)


@given(st.integers(0, 300))
def test_influences_are_delongs_placements(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(-4, 5, 60).astype(float)
    order = generator.permutation(60)
    forget, rest = order[:17], order[17:50]
    found = measure_influence(scores, forget, rest)
    assert found.estimate == pytest.approx(auc(scores[forget], scores[rest]), abs=1e-12)
    np.testing.assert_allclose(
        found.forget[forget] * 17 + found.estimate, placements(scores[forget], scores[rest]), atol=1e-12
    )
    np.testing.assert_allclose(
        found.non_members[rest] * 33 + found.estimate, 1 - placements(scores[rest], scores[forget]), atol=1e-12
    )
    assert not found.forget[order[17:]].any()
    assert not found.non_members[forget].any()


def test_the_gap_of_one_seed_is_delongs_paired_interval() -> None:
    generator = np.random.default_rng(0)
    shared = generator.normal(size=140)
    one, other = (shared + generator.normal(size=140) + shift * (np.arange(140) < 40) for shift in (1.0, 0.0))
    forget, rest = np.arange(40), np.arange(40, 140)
    gap = measure_influence(one, forget, rest).minus(measure_influence(other, forget, rest))
    found = gap_interval([gap], 0.90, num_models=2)
    sides = [(placements(one[a], one[b]) - placements(other[a], other[b])) for a, b in ((forget, rest), (rest, forget))]
    variances = [side.var(ddof=1) / len(side) for side in sides]
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 39 + variances[1] ** 2 / 99)
    half = t.ppf(0.95, freedom) * np.sqrt(sum(variances))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-12)
    assert found.kind == "examples"


def simulate(generator: np.random.Generator, num_forget: int, num_seeds: int, *, leak: float, drawn: bool,
             spread: float = 0.0) -> tuple[list[Influence], list[Influence], np.ndarray]:  # fmt: skip
    """One audit of binormal log-odds: AUCs, gaps, and the leak of each seed's model."""
    num_rest = 200
    num_drawn = num_forget * num_seeds if drawn else num_forget
    own = generator.normal(size=num_drawn + num_rest)
    leaks = leak + spread * generator.normal(size=num_seeds)
    aucs, gaps = [], []
    for seed in range(num_seeds):
        forget = np.arange(num_forget) + (seed * num_forget if drawn else 0)
        rest = np.arange(num_drawn, num_drawn + num_rest)
        scores = (own + generator.normal(size=(2, len(own)))) / np.sqrt(2)
        scores[0, forget] += leaks[seed]
        one, other = (measure_influence(row, forget, rest) for row in scores)
        aucs.append(one)
        gaps.append(one.minus(other))
    return aucs, gaps, leaks


def coverage(num_forget: int, num_seeds: int, leak: float, drawn: bool, spread: float) -> tuple[float, float]:
    """Coverage of the 95 % interval of the AUC and of the 90 % interval of the gap."""
    generator = np.random.default_rng([num_forget, num_seeds])
    hits = []
    for _ in range(150):
        aucs, gaps, leaks = simulate(generator, num_forget, num_seeds, leak=leak, drawn=drawn, spread=spread)
        truth = norm.cdf(leaks / np.sqrt(2)).mean() if num_seeds < 3 else norm.cdf(leak / np.sqrt(2 + spread**2))
        one, gap = auc_interval(aucs, 0.95), gap_interval(gaps, 0.90, num_models=2)
        hits.append((one.low <= truth <= one.high, gap.low <= truth - 0.5 <= gap.high))
    found = np.mean(hits, axis=0)
    return float(found[0]), float(found[1])


@pytest.mark.parametrize("num_forget", [1, 3, 10, 50])
def test_the_intervals_cover_at_every_size_of_the_forget_set(num_forget: int) -> None:
    """``benchmarks/interval_coverage.py`` simulates more kinds. 150 audits have a standard error of .018."""
    for num_seeds, leak in product((1, 3), (0.0, 1.5)):
        for_auc, for_gap = coverage(num_forget, num_seeds, leak, drawn=False, spread=0.2 if num_seeds == 3 else 0.0)
        assert for_auc >= 0.93 - 0.018, (num_seeds, leak)
        assert for_gap >= 0.88 - 0.018, (num_seeds, leak)


def test_a_list_over_several_seeds_carries_both_variances() -> None:
    """Student's t over seeds that share their forget examples misses the variance of the examples."""
    generator = np.random.default_rng(7)
    hits: list[tuple[bool, bool]] = []
    for _ in range(250):
        aucs, _, _ = simulate(generator, 10, 5, leak=0.5, drawn=False)
        values = [one.estimate for one in aucs]
        half = t.ppf(0.975, 4) * np.std(values, ddof=1) / np.sqrt(5)
        truth = norm.cdf(0.5 / np.sqrt(2))
        found = auc_interval(aucs, 0.95)
        hits.append((found.low <= truth <= found.high, abs(np.mean(values) - truth) <= half))
    both, seeds_alone = np.mean(hits, axis=0)
    assert seeds_alone < 0.90
    assert both >= 0.93


def test_seeds_with_examples_of_their_own_have_students_interval() -> None:
    generator = np.random.default_rng(3)
    aucs = []
    for seed in range(3):
        forget, rest = np.split(np.arange(400) + 400 * seed, [100])
        aucs.append(measure_influence(generator.normal(size=1200), forget, rest))
    values = [one.estimate for one in aucs]
    half = t.ppf(0.95, 2) * np.std(values, ddof=1) / np.sqrt(3)
    found = gap_interval(aucs, 0.90, num_models=1)
    assert found.kind == "student_t"
    assert (found.high - found.low) / 2 == pytest.approx(half, abs=1e-12)


def test_a_perfect_separation_keeps_a_width_and_no_share_leaves_its_range() -> None:
    scores = np.arange(60.0)
    for num_forget in (1, 5, 20):
        found = measure_influence(scores, np.arange(60 - num_forget, 60), np.arange(20))
        assert found.estimate == 1
        interval = auc_interval([found], 0.95)
        assert interval.high == 1
        assert interval.low < 0.95
        assert interval.low >= 0
    gap = gap_interval([measure_influence(scores, np.array([59]), np.arange(20)).minus(0.5)], 0.90, num_models=1)
    assert -1 <= gap.low <= 0.1 < gap.high <= 1
