"""RMIA, calibrated loss and loss, each against its definition written out, and on data where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from ungan_dist.attack.further import fit_reference_models, relative_membership
from ungan_dist.attack.lira import examples_per_chunk
from ungan_dist.attack.metrics import auc


def dominated(own: np.ndarray, mean: np.ndarray, population: np.ndarray, gamma: float) -> list[float]:
    """Equations 4 and 5 of the paper, pair by pair."""
    shares: list[float] = []
    for x in range(len(own)):
        pairs = [(own[x] / mean[x]) / (own[z] / mean[z]) > gamma for z in population if z != x]
        shares.append(float(np.mean(pairs)))
    return shares


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9, 1.0, 2.0]), st.integers(2, 12))
def test_rmia_is_the_share_of_dominated_pairs(seed: int, gamma: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    own, mean = rng.uniform(0.01, 1, size=(2, 15))
    population = rng.choice(15, size, replace=False)
    found = relative_membership(own, mean, population, gamma=gamma)
    np.testing.assert_allclose(found, dominated(own, mean, population, gamma), atol=1e-12)


def test_equal_examples_dominate_each_other_only_below_gamma_one() -> None:
    same = np.full(4, 0.25)
    assert relative_membership(same, same, [0, 1, 2]).tolist() == [0.0] * 4
    assert relative_membership(same, same, [0, 1, 2], gamma=0.5).tolist() == [1.0] * 4


def test_a_confidence_of_zero_is_no_division_by_zero() -> None:
    found = relative_membership([0.0, 0.0, 1.0], [0.0, 0.5, 0.0], [0, 1])
    assert np.isfinite(found).all()
    assert found[2] == 1.0


@pytest.mark.parametrize("offline", [False, True])
def test_reference_models_average_in_and_out_models(offline: bool) -> None:
    rng = np.random.default_rng(0)
    edge = examples_per_chunk(6, 2)
    log_odds = rng.normal(size=(6, edge + 100, 2))  # more examples than are read at once
    membership = rng.permuted(np.arange(6)[:, None].repeat(edge + 100, 1) < 3, axis=0)
    found = fit_reference_models(log_odds, membership, offline=offline, offline_a=0.3)
    for example in (0, edge - 1, edge, edge + 99):
        confidence = expit(log_odds[:, example]).mean(1)
        members, others = confidence[membership[:, example]], confidence[~membership[:, example]]
        expected = (members.mean() + others.mean()) / 2
        if offline:  # Zarifzadeh et al. 2024, section 3: p̄ ≈ ((1 + a) p_out + (1 − a)) / 2
            expected = (1.3 * others.mean() + 0.7) / 2
        assert found.confidence[example] == pytest.approx(expected)
        assert found.out_log_odds[example] == pytest.approx(log_odds[~membership[:, example], example].mean())


def test_each_attack_sees_a_leak_and_none_sees_one_without() -> None:
    rng = np.random.default_rng(1)
    difficulty = rng.normal(0, 3, 2000)
    membership = rng.permuted(np.arange(16)[:, None].repeat(2000, 1) < 8, axis=0)
    shadows = (difficulty + 2 * membership + rng.normal(size=(16, 2000)))[..., None]
    references = fit_reference_models(shadows, membership)
    forget, rest = np.arange(500), np.arange(500, 2000)
    for leak in (0.0, 2.0):
        target = difficulty + rng.normal(size=2000)
        target[forget] += leak
        found = {name: auc(s[forget], s[rest]) for name, s in references.score(target[:, None], rest).items()}
        if not leak:
            assert all(abs(value - 0.5) < 0.05 for value in found.values())
        else:
            assert found["calibrated_loss"] > 0.85
            assert found["rmia"] > 0.75
            assert 0.6 < found["loss"] < found["rmia"]  # it does not know how difficult an example is


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"confidence": [1.2, 0.5, 0.5]}, "confidence must lie in"),
        ({"reference": [0.5, -0.1, 0.5]}, "reference must lie in"),
        ({"reference": [0.5]}, "one value per example"),
        ({"population": [1]}, "2 examples or more"),
        ({"population": [1, 9]}, "population must be in"),
        ({"gamma": 0.0}, "gamma must be greater than 0"),
    ],
)
def test_bad_input_is_refused(changes: dict, words: str) -> None:
    good = {"confidence": [0.5, 0.6, 0.7], "reference": [0.5, 0.6, 0.7], "population": [0, 1]}
    with pytest.raises(ValueError, match=words):
        relative_membership(**good | changes)
