"""Membership p values of single examples: uniform without membership, with intervals that cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import kstest, nct, norm

from ungan_dist.attack.moments import compute_moments
from ungan_dist.attack.records import measure_p_values


def simulate(num_out: int, shift: float, num_examples: int = 3000):
    generator = np.random.default_rng(num_out)
    values = generator.normal(size=(num_out, num_examples))
    out = compute_moments(values, np.ones(values.shape, dtype=bool))
    target = generator.normal(size=num_examples) + shift
    return target, measure_p_values(target, out, np.arange(num_examples))


@pytest.mark.parametrize("num_out", [2, 4, 32])
def test_p_values_of_examples_never_trained_on_are_uniform(num_out: int) -> None:
    _, found = simulate(num_out, 0.0)
    assert kstest(found.p, "uniform").pvalue > 0.01
    assert set(found.num_out) == {num_out}


def test_calibrated_p_values_of_a_more_confident_model_are_uniform() -> None:
    """A model above every shadow model makes half of its never-seen examples look like members."""
    _, forget = simulate(32, 1.7, num_examples=2000)
    _, unseen = simulate(31, 1.7, num_examples=3000)
    assert (forget.p <= 0.05).mean() > 0.4
    found = replace(forget, non_member_p=unseen.p).calibrated
    assert kstest(found, "uniform").pvalue > 0.01
    for index in (0, 7):
        assert found[index] == (1 + sum(unseen.p <= forget.p[index])) / 3001
    with pytest.raises(ValueError, match="no p values of non-members"):
        _ = forget.calibrated


@pytest.mark.parametrize("num_out", [4, 32])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_the_interval_covers_the_p_value_of_endless_shadow_models(num_out: int, shift: float) -> None:
    target, found = simulate(num_out, shift)
    truth = norm.sf(target)
    assert np.mean((found.low <= truth) & (truth <= found.high)) >= 0.93
    assert ((found.low <= found.p) & (found.p <= found.high)).mean() > 0.99


def test_more_shadow_models_narrow_the_interval() -> None:
    widths = [np.median(found.high - found.low) for _, found in (simulate(number, 1.0) for number in (4, 16, 64))]
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


@pytest.mark.parametrize("num_out", [8, 64])
def test_the_interval_is_that_of_the_noncentral_t(num_out: int) -> None:
    target, found = simulate(num_out, 1.0, num_examples=20)
    generator = np.random.default_rng(num_out)
    values = generator.normal(size=(num_out, 20))
    statistic = np.sqrt(num_out) * (target - values.mean(0)) / values.std(0, ddof=1)
    for index, value in enumerate(statistic):
        reach = 5 * np.sqrt(1 + value**2 / (2 * (num_out - 1)))
        ends = [
            brentq(lambda shift, q=q, x=value: nct.cdf(x, num_out - 1, shift) - q, value - reach, value + reach)
            for q in (0.025, 0.975)
        ]
        low, high = (norm.sf(end / np.sqrt(num_out)) for end in ends)
        assert found.low[index] == pytest.approx(low, abs=0.2 / num_out + 0.01)
        assert found.high[index] == pytest.approx(high, abs=0.2 / num_out + 0.01)
