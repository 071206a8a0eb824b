"""Definition of the one-dimensional energy distance within groups, by sorting: all pairs in O(n log n)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def energy_distance_1d(
    first: Float[Tensor, " first"],
    second: Float[Tensor, " second"],
    first_groups: Int[Tensor, " first"],
    second_groups: Int[Tensor, " second"],
    num_groups: int,
) -> Float[Tensor, " groups"]:
    own_first, n = _sum_pairs(first, first_groups, num_groups)
    own_second, m = _sum_pairs(second, second_groups, num_groups)
    both, _ = _sum_pairs(torch.cat([first, second]), torch.cat([first_groups, second_groups]), num_groups)
    across = (both - own_first - own_second) / (n * m).clamp(min=1)
    within = own_first / (n * (n - 1)).clamp(min=1) + own_second / (m * (m - 1)).clamp(min=1)
    return torch.where((n > 0) & (m > 0), 2 * (across - within), 0)


def _sum_pairs(
    values: Float[Tensor, " values"], groups: Int[Tensor, " values"], num_groups: int
) -> tuple[Float[Tensor, " groups"], Float[Tensor, " groups"]]:
    """Return Σ |vᵢ − vⱼ| over the unordered pairs of each group, and the group's number of values."""
    order = values.detach().argsort(stable=True)
    order = order[groups[order].argsort(stable=True)]
    # one-hot products, because scattered additions have no fixed order on a GPU; torch's one_hot reads on the host
    membership = (groups[order][:, None] == torch.arange(num_groups, device=groups.device)).to(values.dtype)
    counts = membership.sum(0)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(values), device=values.device, dtype=values.dtype) - membership @ starts
    return ((2 * rank + 1 - membership @ counts) * values[order]) @ membership, counts
