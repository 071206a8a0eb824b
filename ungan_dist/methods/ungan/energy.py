"""The energy distance of one-dimensional samples, by sorting: exact over all pairs in O(n log n)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def energy_distance(
    first: Float[Tensor, " first"],
    second: Float[Tensor, " second"],
    first_groups: Int[Tensor, " first"] | None = None,
    second_groups: Int[Tensor, " second"] | None = None,
    *,
    num_groups: int = 1,
) -> Float[Tensor, " groups"]:
    """Estimate 2 E|X − Y| − E|X − X′| − E|Y − Y′| without bias, in each group; differentiable.

    In one dimension this is twice the squared Cramer distance ∫ (F − G)² of the distribution functions. A sample of
    one has no pair of its own, so its E|X − X′| is taken as 0.

    Args:
        first: Sample of X.
        second: Sample of Y.
        first_groups: Group of each value; defaults to a single group.
        second_groups: Likewise for the second sample.
        num_groups: Number of groups.

    Returns:
        The distance in each group; 0 where a sample has no value in the group.

    Examples:
        >>> energy_distance(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 5.0]))
        tensor([4.])
    """
    groups_of_first = torch.zeros_like(first, dtype=torch.int64) if first_groups is None else first_groups
    groups_of_second = torch.zeros_like(second, dtype=torch.int64) if second_groups is None else second_groups
    own_first, n = _sum_pairs(first, groups_of_first, num_groups)
    own_second, m = _sum_pairs(second, groups_of_second, num_groups)
    both, _ = _sum_pairs(torch.cat([first, second]), torch.cat([groups_of_first, groups_of_second]), num_groups)
    across = (both - own_first - own_second) / (n * m).clamp(min=1)
    within = own_first / (n * (n - 1)).clamp(min=1) + own_second / (m * (m - 1)).clamp(min=1)
    return torch.where((n > 0) & (m > 0), 2 * (across - within), 0)


def _sum_pairs(
    values: Float[Tensor, " values"], groups: Int[Tensor, " values"], num_groups: int
) -> tuple[Float[Tensor, " groups"], Float[Tensor, " groups"]]:
    """Return Σ |vᵢ − vⱼ| over the unordered pairs of each group, and the group's number of values."""
    order = values.detach().argsort(stable=True)
    order = order[groups[order].argsort(stable=True)]
    # one-hot products, because scattered additions have no fixed order on a GPU
    membership = functional.one_hot(groups[order], num_groups).to(values.dtype)
    counts = membership.sum(0)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(values), device=values.device, dtype=values.dtype) - membership @ starts
    return ((2 * rank + 1 - membership @ counts) * values[order]) @ membership, counts
