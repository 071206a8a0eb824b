"""The energy distance in one dimension, against all pairs, an integral and SciPy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from fused_budget import assert_within_budget, value_and_gradients
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ungan_dist.kernels import energy_distance_1d as energy_distance
from ungan_dist.kernels.impl import Impl
from ungan_dist.kernels.self_check.guards import guarded_buffers

f32, f64 = torch.float32, torch.float64


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


def fused_case(device: str, n: int, m: int, num_groups: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    groups = [torch.arange(size, device=device) * 7 % num_groups for size in (n, m)]
    values = [draw(seed, size).float().double().to(device) for seed, size in ((5, n), (6, m))]
    return values, {"first_groups": groups[0], "second_groups": groups[1]}


@pytest.mark.parametrize(
    ("n", "m", "num_groups"), [(33, 65, 1), (40, 70, 4), (1, 5, 1), (3, 4, 9)], ids=["tiles", "groups", "one", "gaps"]
)
def test_the_fused_value_and_gradients(fused_device: str, n: int, m: int, num_groups: int) -> None:
    values, groups = fused_case(fused_device, n, m, num_groups)
    weights = torch.arange(1, num_groups + 1, device=fused_device)

    def weighted(impl: Impl, *leaves: Tensor) -> Tensor:
        return (weights * energy_distance(*leaves, **groups, num_groups=num_groups, impl=impl)).sum()

    low, exact = (value_and_gradients(partial(weighted, "reference"), values, dtype) for dtype in (f32, f64))
    with guarded_buffers() as buffers:
        fused = value_and_gradients(partial(weighted, "fused"), values, f32)
    assert len(buffers) == 1
    size = float(weights.sum() * max(float(value.abs().max()) for value in values))
    assert_within_budget(fused[0], low[0], exact[0], "value", magnitude=size)
    for mine, rounded, truth in zip(fused[1], low[1], exact[1], strict=True):
        assert_within_budget(mine, rounded, truth, "gradient")


def test_equal_values_have_a_fused_slope_of_zero_and_nan_comes_out(fused_device: str) -> None:
    values = torch.zeros(5, device=fused_device, requires_grad=True)
    energy_distance(values, torch.zeros(4, device=fused_device), impl="fused").sum().backward()
    assert values.grad is not None
    assert values.grad.eq(0).all()
    groups = torch.tensor([0, 0, 1, 1], device=fused_device)
    spoiled = torch.tensor([0.0, torch.nan, 1.0, 2.0], device=fused_device)
    distances = energy_distance(spoiled, 1 - spoiled.nan_to_num(), groups, groups, num_groups=2, impl="fused")
    assert distances[0].isnan()


def test_fused_refuses_float64(fused_device: str) -> None:
    with pytest.raises(ValueError, match="it takes float32 for both samples"):
        energy_distance(*fused_case(fused_device, 3, 4, 1)[0], impl="fused")
