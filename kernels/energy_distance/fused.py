"""The fused energy distance: tiles of pairs, O(n + m) memory, and sums in a fixed order."""

# Annotations are not lazy here, because torch reads an operation's schema from them.

import torch
import triton
from torch import Tensor

from ungan_dist.kernels.blocks import DIRECT_DIM, select_distance_blocks, select_distance_columns
from ungan_dist.kernels.energy_distance.fused_pairs import mean_kernel, slope_kernel
from ungan_dist.kernels.gradients import multiply_rows

MIN_PROGRAMS = 1024
"""Target number of programs; blocks of rows are split over columns to reach it. Depends on shapes only."""


@torch.library.custom_op("ungan_dist::energy_distance", mutates_args=())
def energy_distance(x: Tensor, y: Tensor, unbiased: bool, precision: str) -> Tensor:
    """Compute ``2·mean‖x − y‖ − U(x) − U(y)`` in float32. Partial sums are float32 and added in float64."""
    x, y = x.contiguous(), y.contiguous()
    centre = _centre(x)
    of_x, of_y = (_squared_norms(z, centre) for z in (x, y))
    n, m = len(x), len(y)
    between = _sum_of_distances(x, y, centre, of_x, of_y, False, precision) * (2 / (n * m))
    within = [
        _sum_of_distances(z, z, centre, size, size, True, precision) * (2 / (len(z) * (len(z) - unbiased)))
        if len(z) > 1
        else 0
        for z, size in ((x, of_x), (y, of_y))
    ]
    return (between - within[0] - within[1]).float()


@energy_distance.register_fake
def _(x: Tensor, y: Tensor, unbiased: bool, precision: str) -> Tensor:
    return x.new_empty((), dtype=torch.float32)


@torch.library.custom_op("ungan_dist::energy_distance_backward", mutates_args=())
def energy_distance_backward(
    arriving: Tensor, x: Tensor, y: Tensor, unbiased: bool, precision: str
) -> tuple[Tensor, Tensor]:
    """Compute the gradients with respect to both samples. A second derivative raises an error."""
    x, y = x.contiguous(), y.contiguous()
    centre = _centre(x)
    of_x, of_y = (_squared_norms(z, centre) for z in (x, y))
    return (
        multiply_rows(_slopes(x, y, centre, of_x, of_y, unbiased, precision), arriving, x.dtype),
        multiply_rows(_slopes(y, x, centre, of_y, of_x, unbiased, precision), arriving, y.dtype),
    )


@energy_distance_backward.register_fake
def _(arriving: Tensor, x: Tensor, y: Tensor, unbiased: bool, precision: str) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, bool, str], output: Tensor) -> None:
    x, y, *rest = inputs
    ctx.save_for_backward(x, y)
    ctx.rest = rest  # pyright: ignore[reportAttributeAccessIssue]


def _backward(ctx: torch.autograd.function.FunctionCtx, arriving: Tensor) -> tuple[Tensor | None, ...]:
    x, y = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    dx, dy = energy_distance_backward(arriving, x, y, *ctx.rest)  # pyright: ignore[reportAttributeAccessIssue]
    return dx, dy, None, None


energy_distance.register_autograd(_backward, setup_context=_save)


def _centre(x: Tensor) -> Tensor:
    return x.float().mean(0)


def _squared_norms(x: Tensor, centre: Tensor) -> Tensor:
    """Compute the squared norm of each row as the kernels centre it; distances by differences need none."""
    if x.shape[1] <= DIRECT_DIM:
        return centre
    return (x - centre if x.dtype == torch.float32 else x.float()).square().sum(1)


def _sum_of_distances(
    x: Tensor, y: Tensor, centre: Tensor, x_sizes: Tensor, y_sizes: Tensor, same_sample: bool, precision: str
) -> Tensor:
    constants, grid, splits = _plan(x, y, precision, backward=False)
    partial = centre.new_empty(grid * splits)
    mean_kernel[grid, splits](
        x,
        y,
        centre,
        x_sizes,
        y_sizes,
        partial,
        len(x),
        len(y),
        x.shape[1],
        int(same_sample),
        SPLITS=splits,
        **constants,
    )
    return partial.sum(dtype=torch.float64)


def _slopes(
    x: Tensor, y: Tensor, centre: Tensor, x_sizes: Tensor, y_sizes: Tensor, unbiased: bool, precision: str
) -> Tensor:
    """Compute the gradient with respect to x, as partial sums along the leading dimension."""
    n, m = len(x), len(y)
    constants, grid, splits = _plan(x, y, precision, backward=True)
    out = centre.new_empty(splits, *x.shape)
    features = select_distance_columns(x.shape[1])
    grids = (grid, triton.cdiv(x.shape[1], features), splits)
    constants |= {"FEATURES": features}
    slope_kernel[grids](
        x, y, centre, x_sizes, y_sizes, out, n, m, x.shape[1], 0, 2 / (n * m), SPLITS=splits, FIRST=True, **constants
    )
    if n > 1:
        weight = -2 / (n * (n - unbiased))
        slope_kernel[grids](
            x, x, centre, x_sizes, x_sizes, out, n, n, x.shape[1], 1, weight, SPLITS=splits, FIRST=False, **constants
        )
    return out


def _plan(
    x: Tensor, y: Tensor, precision: str, *, backward: bool
) -> tuple[dict[str, int | str | bool | None], int, int]:
    """Choose the kernels' constants, the number of row blocks, and the number of splits of the column blocks."""
    dim = x.shape[1]
    blocks = select_distance_blocks(dim, backward=backward)
    grid = triton.cdiv(len(x), blocks.rows)
    splits = min(8, triton.cdiv(MIN_PROGRAMS, grid), triton.cdiv(max(len(x), len(y)), blocks.columns))
    constants: dict[str, int | str | bool | None] = {
        "DIRECT": dim <= DIRECT_DIM,
        "CENTRED": x.dtype == torch.float32,
        "ROWS": blocks.rows,
        "COLUMNS": blocks.columns,
        "INNER": blocks.inner,
        "PRECISION": precision if x.dtype == torch.float32 else "tf32",
        "num_warps": blocks.num_warps,
        "num_stages": blocks.num_stages,
        "maxnreg": blocks.max_registers,
    }
    return constants, grid, splits
