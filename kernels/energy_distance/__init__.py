"""Energy distance between two samples."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ungan_dist.kernels.energy_distance import reference
from ungan_dist.kernels.impl import Impl, resolve


def energy_distance(
    x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], *, unbiased: bool = True, impl: Impl = "auto"
) -> Float[Tensor, ""]:
    """``2·mean‖x − y‖ − U(x) − U(y)``, no root taken: zero in expectation exactly where the distributions agree.

    Args:
        unbiased: U is the mean over i ≠ j (a U-statistic, which may be negative); otherwise over all pairs, the
            distance between the two empirical distributions, which may not.
        impl: ``auto``, ``reference`` or ``fused``.

    Raises:
        ValueError: an empty sample, one row where the mean over i ≠ j needs two, or rows of different dimension.

    Source: Székely and Rizzo 2013; the unbiased form is row 13 of the readings of UnGAN.
    """
    resolve("energy_distance", impl)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x and y must be [n, dim] and [m, dim] with the same dim, got {list(x.shape)} and {list(y.shape)}"
        )
    needed = 2 if unbiased else 1
    if min(len(x), len(y)) < needed:
        raise ValueError(f"unbiased={unbiased} needs at least {needed} rows in each sample, got {len(x)} and {len(y)}")
    return reference.energy_distance(x, y, unbiased=unbiased)
