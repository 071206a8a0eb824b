"""The test of Gaussian log-odds: against scipy, its level on Gaussians, and its power on other distributions."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.stats import anderson

from ungan_dist.attack.normality import FEWEST, measure_distance, measure_normality
from ungan_dist.data.membership import draw_membership


@pytest.mark.parametrize("size", [8, 17, 64])
def test_the_statistic_is_scipys(size: int) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(size, 20))
    factor = 1 + 0.75 / size + 2.25 / size**2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a p value that is not used here
        expected = [anderson(column, "norm").statistic * factor for column in values.T]
    np.testing.assert_allclose(measure_distance(values), expected, rtol=1e-10)


@pytest.mark.parametrize("num_models", [16, 64, 256])
def test_gaussians_are_rejected_by_chance_alone(num_models: int) -> None:
    membership = draw_membership(num_models, 3000, 0)
    log_odds = np.random.default_rng(1).normal(3, 2, size=(num_models, 3000, 2)) + membership[..., None]
    found = measure_normality(log_odds, membership)
    assert found is not None
    assert found.num_tested == 6000
    # four standard errors of 6,000 tests
    assert found.rejected_in == pytest.approx(0.05, abs=0.0115)
    assert found.rejected_out == pytest.approx(0.05, abs=0.0115)
    assert not found.is_doubtful


def test_the_group_that_is_not_gaussian_is_named() -> None:
    membership = draw_membership(64, 500, 0)
    generator = np.random.default_rng(2)
    heavy = generator.standard_t(2, size=(64, 500, 1))
    log_odds = np.where(membership[..., None], heavy, generator.normal(size=(64, 500, 1)))
    found = measure_normality(log_odds, membership)
    assert found is not None
    assert found.rejected_in > 0.5
    assert found.rejected_out < 0.09
    assert found.is_doubtful


def test_examples_with_different_numbers_of_models_are_tested_each_by_its_own() -> None:
    """As after a pair of shadow models has failed in part: the counts of an example are its own."""
    generator = np.random.default_rng(3)
    membership = generator.random((40, 300)) < 0.5
    log_odds = generator.normal(size=(40, 300, 1))
    log_odds[:, 150:] = np.exp(2 * log_odds[:, 150:])
    found = measure_normality(log_odds, membership)
    assert found is not None
    alone = [measure_distance(log_odds[membership[:, example], example])[0] > 0.752 for example in range(300)]
    assert found.rejected_in == pytest.approx(np.mean(alone))
    assert 0.45 < found.rejected_in < 0.6


def test_too_few_models_are_not_tested() -> None:
    membership = draw_membership(2 * (FEWEST - 1), 100, 0)
    assert measure_normality(np.zeros((len(membership), 100, 1)), membership) is None


def test_equal_log_odds_are_no_gaussian_and_no_error() -> None:
    membership = draw_membership(16, 100, 0)
    found = measure_normality(np.zeros((16, 100, 1)), membership)
    assert found is not None
    assert found.rejected_in == 1.0


def test_examples_are_tested_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    membership = draw_membership(64, 2000, 0)
    log_odds = np.random.default_rng(3).standard_t(5, size=(64, 2000, 2)).astype(np.float32)
    whole = measure_normality(log_odds, membership)
    monkeypatch.setattr("ungan_dist.attack.normality.CHUNK_BYTES", 2**16)
    tracemalloc.start()
    found = measure_normality(log_odds, membership)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == whole
    assert peak_bytes < log_odds.nbytes
