"""The fused one-dimensional energy distance within groups: one launch for the value and every gradient."""

# Annotations are not lazy here: torch reads an operation's schema from them, also through a type checker's wrapper.

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import one_hot

from ungan_dist.kernels.blocks import DISTANCE_GROUPS
from ungan_dist.kernels.gradients import scale_gradients

MIN_PROGRAMS = 1024
"""Target number of programs; blocks of rows are split over columns to reach it. Depends on shapes only."""


@triton.jit
@no_type_check
def group_kernel(
    values, groups, sums, num_values, num_first, SPLITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sum |v[r] − v[c]| and its slope over every ``SPLITS``-th block of columns in the row's group.

    Four sums a row: distances and slopes in the row's own sample, then in the other one. Rows of both samples are
    stacked, the first sample before.
    """
    block = tl.program_id(0)
    split = tl.program_id(1)
    rows = block * ROWS + tl.arange(0, ROWS)
    value = tl.load(values + rows, mask=rows < num_values, other=0.0)
    group = tl.load(groups + rows, mask=rows < num_values, other=-1)
    own = tl.zeros([ROWS], dtype=tl.float32)
    own_slope = tl.zeros([ROWS], dtype=tl.float32)
    across = tl.zeros([ROWS], dtype=tl.float32)
    across_slope = tl.zeros([ROWS], dtype=tl.float32)
    for tile in range(split, tl.cdiv(num_values, COLUMNS), SPLITS):
        columns = tile * COLUMNS + tl.arange(0, COLUMNS)
        others = tl.load(values + columns, mask=columns < num_values, other=0.0)
        groups_of_others = tl.load(groups + columns, mask=columns < num_values, other=-2)
        difference = value[:, None] - others[None, :]
        slope = tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, difference * 0))
        together = group[:, None] == groups_of_others[None, :]
        in_sample = (rows < num_first)[:, None] == (columns < num_first)[None, :]
        own += tl.sum(tl.where(together & in_sample, tl.abs(difference), 0.0), 1)
        own_slope += tl.sum(tl.where(together & in_sample, slope, 0.0), 1)
        across += tl.sum(tl.where(together & (in_sample == 0), tl.abs(difference), 0.0), 1)
        across_slope += tl.sum(tl.where(together & (in_sample == 0), slope, 0.0), 1)
    place = sums + split * num_values + rows
    inside = rows < num_values
    tl.store(place, own, mask=inside)
    tl.store(place + SPLITS * num_values, own_slope, mask=inside)
    tl.store(place + 2 * SPLITS * num_values, across, mask=inside)
    tl.store(place + 3 * SPLITS * num_values, across_slope, mask=inside)


@torch.library.custom_op("ungan_dist::energy_distance_1d", mutates_args=())
def energy_distance_1d(
    first: Tensor, second: Tensor, first_groups: Tensor, second_groups: Tensor, num_groups: int
) -> tuple[Tensor, Tensor]:
    """Compute the distance in each group, and its gradient by every value, both samples stacked."""
    values, groups = torch.cat([first, second]), torch.cat([first_groups, second_groups])
    blocks, number = DISTANCE_GROUPS, len(values)
    grid = triton.cdiv(number, blocks.rows)
    splits = min(8, triton.cdiv(MIN_PROGRAMS, grid), triton.cdiv(number, blocks.columns))
    partial = values.new_empty(4, splits, number)
    constants = {
        "ROWS": blocks.rows,
        "COLUMNS": blocks.columns,
        "num_warps": blocks.num_warps,
        "num_stages": blocks.num_stages,
    }
    group_kernel[grid, splits](values, groups, partial, number, len(first), SPLITS=splits, **constants)
    own, own_slope, across, across_slope = partial.sum(1, dtype=torch.float64)
    # products with one-hot rows, because scattered additions have no fixed order on a GPU
    of_first, of_second = (one_hot(part, num_groups).double() for part in (first_groups, second_groups))
    n, m = of_first.sum(0), of_second.sum(0)
    within = [(count * (count - 1)).clamp(min=1) for count in (n, m)]
    between = (n * m).clamp(min=1)
    counted = (n > 0) & (m > 0)
    num_first = len(first)
    distance = 2 * (across[:num_first] @ of_first) / between
    distance = distance - own[:num_first] @ of_first / within[0] - own[num_first:] @ of_second / within[1]
    own_weight = torch.cat([within[0][first_groups], within[1][second_groups]])
    slopes = 2 * counted[groups] * (across_slope / between[groups] - own_slope / own_weight)
    return torch.where(counted, distance, 0).float(), slopes.float()


@energy_distance_1d.register_fake
def _(
    first: Tensor, second: Tensor, first_groups: Tensor, second_groups: Tensor, num_groups: int
) -> tuple[Tensor, Tensor]:
    return first.new_empty(num_groups), first.new_empty(len(first) + len(second))


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: object) -> None:
    assert isinstance(output, tuple)
    ctx.save_for_backward(output[1], *(tensor for tensor in inputs if isinstance(tensor, Tensor)))


def _backward(
    ctx: torch.autograd.function.FunctionCtx, arriving: Tensor, _slopes: Tensor | None
) -> tuple[Tensor | None, ...]:
    slopes, first, second, *groups = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    scaled = scale_gradients(arriving[torch.cat(groups)], slopes, [first, second])
    return (*scaled.split([len(first), len(second)]), None, None, None)


energy_distance_1d.register_autograd(_backward, setup_context=_save)
