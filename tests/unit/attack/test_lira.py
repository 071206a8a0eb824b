"""LiRA against an example-by-example loop over SciPy's normal distribution."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from ungan_dist.attack import lira
from ungan_dist.attack.lira import likelihood_ratio, resolve_variance
from ungan_dist.attack.metrics import auc
from ungan_dist.attack.moments import Moments, compute_in_and_out_moments, compute_moments, merge_moments


def complementary(num_models: int, num_examples: int, rng: np.random.Generator) -> np.ndarray:
    """Model 2j takes a random half, model 2j + 1 the rest."""
    first = np.zeros((num_models // 2, num_examples), dtype=bool)
    for row in first:
        row[rng.permutation(num_examples)[: num_examples // 2]] = True
    return np.stack([first, ~first], axis=1).reshape(num_models, num_examples)


def fleet(num_models=8, num_examples=40, num_queries=2, seed=0):
    """Shadow log-odds whose centre and spread differ from example to example, higher for members."""
    rng = np.random.default_rng(seed)
    membership = complementary(num_models, num_examples, rng)
    spread = rng.uniform(0.5, 2, (num_examples, 1))
    shadow = rng.normal(rng.normal(5, 3, (num_examples, 1)), spread, (num_models, num_examples, num_queries))
    shadow += 1.5 * membership[:, :, None]
    return shadow, membership, rng.normal(5, 3, (num_examples, num_queries))


def loop(shadow, membership, target, *, center, variance, mode, sigma_floor, leave_out):
    """The definition, one example and query at a time."""
    kept = [model for model in range(len(shadow)) if model not in leave_out]
    shadow, membership = shadow[kept], membership[kept]
    _, num_examples, num_queries = shadow.shape
    groups = {
        (group, n, q): shadow[membership[:, n] == group, n, q]
        for group in (True, False)
        for n in range(num_examples)
        for q in range(num_queries)
    }

    def sigma(group, n, q):
        if variance == "per_example":
            return max(np.std(groups[group, n, q]), sigma_floor)
        mine = [values for (which, _, _), values in groups.items() if which == group]
        if variance == "pooled":
            residuals = np.concatenate([values - values.mean() for values in mine])
            return max(np.sqrt((residuals**2).sum() / sum(len(values) - 1 for values in mine)), sigma_floor)
        used = mine if mode != "online" else [values for (which, _, _), values in groups.items() if which]
        return max(np.std(np.concatenate(used)), sigma_floor)

    locate = np.mean if center == "mean" else np.median
    scores = np.zeros(num_examples)
    for n in range(num_examples):
        for q in range(num_queries):
            fits = {group: (locate(groups[group, n, q]), sigma(group, n, q)) for group in (True, False)}
            if mode == "online":
                ratio = norm.logpdf(target[n, q], *fits[True]) - norm.logpdf(target[n, q], *fits[False])
            elif mode == "offline_two_sided":
                ratio = -norm.logpdf(target[n, q], *fits[False])
            else:
                ratio = norm.logcdf(target[n, q], *fits[False])
            scores[n] += ratio / num_queries
    return scores


@pytest.mark.parametrize("mode", ["online", "offline", "offline_two_sided"])
@pytest.mark.parametrize("variance", ["per_example", "pooled", "carlini_fixed"])
@pytest.mark.parametrize("center", ["mean", "median"])
@pytest.mark.parametrize("leave_out", [(), (2, 3)])
def test_likelihood_ratio_is_its_definition(center, variance, mode, leave_out, monkeypatch):
    monkeypatch.setattr("ungan_dist.attack.lira.CHUNK_BYTES", 8 * 8 * 2 * 7)  # 7 examples a chunk do not divide 40
    options = {"center": center, "variance": variance, "mode": mode, "sigma_floor": 1e-3, "leave_out": leave_out}
    arrays = fleet()
    np.testing.assert_allclose(likelihood_ratio(*arrays, **options), loop(*arrays, **options), rtol=1e-10, atol=1e-10)


def test_unequal_groups_are_fitted_by_their_own_sizes():
    shadow, _, target = fleet()
    membership = np.random.default_rng(1).random((8, 40)) < 0.4
    membership[:2], membership[2:4] = True, False
    options = {"center": "median", "variance": "pooled", "mode": "online", "sigma_floor": 1e-3, "leave_out": ()}
    expected = loop(shadow, membership, target, **options)
    score = likelihood_ratio(shadow, membership, target, **options)
    np.testing.assert_allclose(score, expected, rtol=1e-10, atol=1e-10)


def test_auto_is_resolved_by_the_whole_fleet_even_if_models_are_left_out():
    assert resolve_variance("auto", 62) == "pooled"
    assert resolve_variance("auto", 64) == "per_example"
    assert resolve_variance("carlini_fixed", 8) == "carlini_fixed"
    small, large = fleet(num_models=8), fleet(num_models=64)
    np.testing.assert_array_equal(likelihood_ratio(*small), likelihood_ratio(*small, variance="pooled"))
    own = {"leave_out": (0, 1)}
    np.testing.assert_array_equal(
        likelihood_ratio(*large, **own), likelihood_ratio(*large, variance="per_example", **own)
    )


@pytest.mark.parametrize("variance", ["per_example", "pooled", "carlini_fixed"])
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_tied_log_odds_meet_the_floor(variance, mode):
    _, membership, _ = fleet()
    shadow, target = np.full((8, 40, 2), 3.0), np.full((40, 2), 4.0)
    score = likelihood_ratio(shadow, membership, target, variance=variance, mode=mode, sigma_floor=0.5)
    expected = 0.0 if mode == "online" else norm.logcdf(2.0)
    np.testing.assert_allclose(score, expected, rtol=1e-12)


def test_a_large_common_offset_cancels_nothing():
    shadow, membership, target = fleet()
    plain = likelihood_ratio(shadow, membership, target, variance="per_example")
    moved = likelihood_ratio(shadow + 1e6, membership, target + 1e6, variance="per_example")
    np.testing.assert_allclose(moved, plain, rtol=1e-6, atol=1e-6)  # moments of raw squares would be off by 1e-3


@given(st.data())
def test_merged_moments_are_those_of_the_union(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = rng.normal(data.draw(st.floats(-1e3, 1e3)), data.draw(st.floats(1e-3, 10)), (12, 5))
    chosen = rng.random((12, 5)) < data.draw(st.floats(0, 1))
    cut = data.draw(st.integers(0, 12))
    parts = [compute_moments(values[:cut], chosen[:cut]), compute_moments(values[cut:], chosen[cut:])]
    union = merge_moments(Moments(*(np.stack(field) for field in zip(*parts, strict=True))))
    whole = compute_moments(values, chosen)
    np.testing.assert_array_equal(union.num_values, whole.num_values)
    np.testing.assert_allclose(union.mean, whole.mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(union.squares, whole.squares, rtol=1e-8, atol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 30.0, -1e6]), spread=st.sampled_from([1.0, 1e-3]))
def test_moments_of_both_groups_are_those_of_each(seed: int, offset: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    is_in = rng.random((12, 5)) < 0.5
    values = offset + np.where(is_in, rng.normal(size=(12, 5)), spread * rng.normal(size=(12, 5)) - 3)
    for found, chosen in zip(compute_in_and_out_moments(values, is_in), (is_in, ~is_in), strict=True):
        expected = compute_moments(values, chosen)
        assert (found.num_values == expected.num_values).all()
        occupied = expected.num_values > 0
        np.testing.assert_allclose(found.mean[occupied], expected.mean[occupied], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.squares[occupied], expected.squares[occupied], rtol=1e-6, atol=1e-9)


@given(st.permutations(range(8)), st.integers(0, 20))
def test_the_order_of_models_and_examples_has_no_effect(models, seed):
    shadow, membership, target = fleet(seed=seed)
    order, examples = list(models), np.random.default_rng(seed).permutation(40)
    moved = likelihood_ratio(shadow[order][:, examples], membership[order][:, examples], target[examples])
    np.testing.assert_allclose(moved, likelihood_ratio(shadow, membership, target)[examples], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("variance", "with_partner"), [("per_example", 0.435), ("pooled", 0.48)])
def test_a_shadow_target_without_signal_is_unbiased_only_without_its_partner(variance, with_partner):
    rng = np.random.default_rng(0)
    membership = complementary(8, 40_000, rng)
    shadow = rng.standard_normal((8, 40_000, 1))

    def separation(leave_out):
        score = likelihood_ratio(shadow, membership, shadow[0], leave_out=leave_out, variance=variance)
        return auc(score[membership[0]], score[~membership[0]])

    assert separation((0, 1)) == pytest.approx(0.5, abs=0.01)
    # The partner makes OUT (of members) or IN (of the rest) the better estimated of the two groups.
    assert separation((0,)) == pytest.approx(with_partner, abs=0.01)
    assert separation(()) > 0.6  # its own log-odds are in the fit


def test_a_memory_mapped_fleet_is_scored_within_a_fraction_of_its_size(tmp_path: Path):
    num_models, num_examples = 512, 45_000
    shadow = np.lib.format.open_memmap(
        tmp_path / "fleet.npy", mode="w+", dtype=np.float32, shape=(num_models, num_examples, 2)
    )
    shadow[1] = 1.0
    membership = complementary(num_models, num_examples, np.random.default_rng(0))
    target = np.ones((num_examples, 2), dtype=np.float32)
    tracemalloc.start()
    score = likelihood_ratio(shadow, membership, target, leave_out=(2, 3))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 60e6  # the array itself is 184 MB
    # One of 255 models at 1 and the rest at 0 on the side of model 1; all at 0, on the floor, on the other.
    assert (score[membership[1]] > 0).all()
    assert (score[~membership[1]] < 0).all()


@pytest.mark.parametrize("options", [{}, {"mode": "offline"}, {"center": "median"}])
def test_threads_and_chunks_change_no_bit(options, monkeypatch):
    arguments = fleet(num_models=8)
    alone = likelihood_ratio(*arguments, **options)
    for num_threads, num_bytes in ((1, 2**20), (3, 8 * 8 * 2 * 7), (8, 1)):
        monkeypatch.setattr(lira, "MAX_THREADS", num_threads)
        monkeypatch.setattr(lira, "CHUNK_BYTES", num_bytes)
        monkeypatch.setattr(lira.os, "cpu_count", lambda: 8)
        np.testing.assert_array_equal(likelihood_ratio(*arguments, **options), alone)


def test_broken_models_are_named():
    shadow, membership, target = fleet()
    shadow[2, 39, 1], shadow[5, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"shadow models \[2, 5\] are not finite"):
        likelihood_ratio(shadow, membership, target)
    with pytest.raises(ValueError, match=r"shadow models \[5\] are not finite"):
        likelihood_ratio(shadow, membership, target, leave_out=(2, 3))
    assert np.isfinite(likelihood_ratio(shadow, membership, target, leave_out=(2, 3, 4, 5))).all()


def test_a_diverged_target_is_refused():
    shadow, membership, target = fleet()
    target[3] = np.nan
    with pytest.raises(ValueError, match="1 of 40 examples"):
        likelihood_ratio(shadow, membership, target)


def test_examples_without_enough_models_are_counted():
    shadow, membership, target = fleet()
    membership[:, :3], membership[0, :3] = False, True
    assert np.isfinite(likelihood_ratio(shadow, membership, target)).all()
    with pytest.raises(ValueError, match="3 of 40 examples have fewer than 2 IN and OUT"):
        likelihood_ratio(shadow, membership, target, variance="per_example")
    membership[0, :3] = False
    with pytest.raises(ValueError, match="3 of 40 examples have fewer than 1 IN and OUT"):
        likelihood_ratio(shadow, membership, target)
    assert np.isfinite(likelihood_ratio(shadow, membership, target, mode="offline")).all()
    with pytest.raises(ValueError, match="at least 4 shadow models"):
        likelihood_ratio(*fleet(num_models=2))
    with pytest.raises(ValueError, match="40 of 40"):
        likelihood_ratio(shadow, membership, target, leave_out=range(8))


@pytest.mark.parametrize(
    "options",
    [{"center": "mode"}, {"variance": "fixed"}, {"mode": "both"}, {"sigma_floor": 0.0}, {"leave_out": (8,)}],
)
def test_unknown_options_are_refused(options, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production: only the package's checks
    with pytest.raises(ValueError, match=next(iter(options))):
        likelihood_ratio(*fleet(), **options)


def test_mismatched_shapes_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    shadow, membership, target = fleet()
    with pytest.raises(
        ValueError,
        match="shadow_log_odds must have the shape",
    ):
        likelihood_ratio(shadow[:, :, 0], membership, target)
    with pytest.raises(ValueError, match="membership must be bool"):
        likelihood_ratio(shadow, membership.astype(float), target)
    with pytest.raises(ValueError, match="membership must be bool"):
        likelihood_ratio(shadow, membership[:, 1:], target)
    with pytest.raises(ValueError, match="target_log_odds must have shape"):
        likelihood_ratio(shadow, membership, target[:, :1])
