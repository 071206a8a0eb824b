"""Energy distance between two samples."""

from __future__ import annotations

from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ungan_dist.kernels.blocks import MAX_DISTANCE_DIM, Precision
from ungan_dist.kernels.energy_distance import reference, sorted_pairs
from ungan_dist.kernels.impl import Impl, resolve


def energy_distance(
    x: Float[Tensor, "n dim"],
    y: Float[Tensor, "m dim"],
    *,
    unbiased: bool = True,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """Compute ``2·mean‖x − y‖ − U(x) − U(y)``. Its expectation is zero only for equal distributions.

    Args:
        x: the first sample.
        y: the second sample.
        unbiased: U is the mean over i ≠ j, and the result may be negative. Otherwise U is the mean over all pairs, and
            the result is the distance between the empirical distributions.
        impl: ``fused`` needs O(n + m) memory, the reference O(n · m). ``fused`` takes float32 or
            bfloat16, returns float32, and is differentiable once.
        precision: precision of the fused float32 dot products, which are used above 32 dimensions.

    Raises:
        ValueError: an empty sample, a sample with one row if ``unbiased``, or rows of different dimension.

    Source: Székely and Rizzo 2013.

    Examples:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> energy_distance(x, x + 10)
        tensor(16.)
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x and y must be [n, dim] and [m, dim] with the same dim, got {list(x.shape)} and {list(y.shape)}"
        )
    needed = 2 if unbiased else 1
    if min(len(x), len(y)) < needed:
        raise ValueError(f"unbiased={unbiased} needs at least {needed} rows in each sample, got {len(x)} and {len(y)}")
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    obstacle = None
    if x.dtype != y.dtype or x.dtype not in (torch.float32, torch.bfloat16):
        obstacle = f"it takes float32 or bfloat16, the same for both, got {x.dtype} and {y.dtype}"
    elif not 0 < x.shape[1] <= MAX_DISTANCE_DIM:
        obstacle = f"it takes 1 to {MAX_DISTANCE_DIM} dimensions, got {x.shape[1]}"
    if resolve("energy_distance", impl, x.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.energy_distance import fused

        return fused.energy_distance(x, y, unbiased, precision)
    return reference.energy_distance(x, y, unbiased=unbiased)


def energy_distance_1d(
    first: Float[Tensor, " first"],
    second: Float[Tensor, " second"],
    first_groups: Int[Tensor, " first"] | None = None,
    second_groups: Int[Tensor, " second"] | None = None,
    *,
    num_groups: int = 1,
    impl: Impl = "auto",
) -> Float[Tensor, " groups"]:
    """Estimate 2 E|X − Y| − E|X − X′| − E|Y − Y′| without bias, in each group; differentiable.

    In one dimension this is twice the squared Cramer distance ∫ (F − G)² of the distribution functions. A sample of
    one has no pair of its own, so its E|X − X′| is taken as 0. At equal values the reference takes a one-sided slope,
    ``fused`` takes 0.

    Args:
        first: Sample of X.
        second: Sample of Y.
        first_groups: Group of each value; defaults to a single group.
        second_groups: Likewise for the second sample.
        num_groups: Number of groups.
        impl: ``fused`` compares all pairs in O(n) memory; it takes float32 and is differentiable once.

    Returns:
        The distance in each group; 0 where a sample has no value in the group.

    Examples:
        >>> energy_distance_1d(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 5.0]))
        tensor([4.])
    """
    of_first = torch.zeros_like(first, dtype=torch.int64) if first_groups is None else first_groups.long()
    of_second = torch.zeros_like(second, dtype=torch.int64) if second_groups is None else second_groups.long()
    obstacle = None
    if first.dtype != torch.float32 or second.dtype != torch.float32:
        obstacle = f"it takes float32 for both samples, got {first.dtype} and {second.dtype}"
    if resolve("energy_distance_1d", impl, first.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.energy_distance import fused_groups

        return fused_groups.energy_distance_1d(first, second, of_first, of_second, num_groups)[0]
    return sorted_pairs.energy_distance_1d(first, second, of_first, of_second, num_groups)
