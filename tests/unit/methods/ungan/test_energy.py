"""The energy distance in one dimension, against all pairs, an integral and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ungan_dist.methods.ungan.energy import energy_distance


def over_all_pairs(first: Tensor, second: Tensor) -> Tensor:
    def own(values: Tensor) -> Tensor:
        number = len(values)
        return (values[:, None] - values).abs().sum() / max(number * (number - 1), 1)

    return 2 * (first[:, None] - second).abs().mean() - own(first) - own(second)


def draw(seed: int, number: int, *, rounded: bool = False) -> Tensor:
    values = 3 * torch.randn(number, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.round() if rounded else values


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 999), st.booleans())
def test_the_sorted_sum_is_the_sum_over_all_pairs(n: int, m: int, seed: int, rounded: bool) -> None:
    first, second = draw(seed, n, rounded=rounded), draw(seed + 1, m, rounded=rounded)
    torch.testing.assert_close(energy_distance(first, second)[0], over_all_pairs(first, second))


def test_the_gradient_is_that_of_all_pairs() -> None:
    first, second = draw(0, 17).requires_grad_(), draw(1, 23).requires_grad_()
    ours = torch.autograd.grad(energy_distance(first, second)[0], [first, second])
    theirs = torch.autograd.grad(over_all_pairs(first, second), [first, second])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 999))
def test_with_all_ordered_pairs_it_is_twice_the_squared_cramer_distance(n: int, m: int, seed: int) -> None:
    first, second = draw(seed, n), draw(seed + 1, m)
    grid = torch.cat([first, second]).sort().values
    below = [(values[:, None] <= grid[:-1]).double().mean(0) for values in (first, second)]
    cramer = ((below[0] - below[1]).square() * grid.diff()).sum()
    # the biased estimate counts each value's distance of 0 to itself as a pair
    biased = energy_distance(first, second)[0]
    for values in (first, second):
        number = len(values)
        biased = biased + (values[:, None] - values).abs().sum() / (number**2 * (number - 1))
    torch.testing.assert_close(biased, 2 * cramer)
    assert float(biased.clamp(min=0).sqrt()) == pytest.approx(stats.energy_distance(first, second), abs=1e-6)


def test_groups_are_compared_each_on_its_own() -> None:
    first, second = draw(2, 40), draw(3, 50)
    of_first, of_second = torch.arange(40) % 4, torch.arange(50) % 3  # the last group has no second sample
    distances = energy_distance(first, second, of_first, of_second, num_groups=5)
    for group in range(3):
        expected = over_all_pairs(first[of_first == group], second[of_second == group])
        torch.testing.assert_close(distances[group], expected)
    assert distances[3:].tolist() == [0, 0]


def test_the_estimate_is_unbiased() -> None:
    generator = np.random.default_rng(0)
    same = [
        float(energy_distance(*(torch.from_numpy(generator.normal(size=5)) for _ in range(2)))[0]) for _ in range(4000)
    ]
    assert abs(np.mean(same)) < 4 * np.std(same) / len(same) ** 0.5
