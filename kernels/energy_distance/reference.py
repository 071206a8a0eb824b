"""Definition of the energy distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def safe_norm(x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows"]:
    """Compute the Euclidean norm over the last dimension. Every derivative is 0 at a zero vector.

    The inner ``where`` keeps the unused branch finite, because 0 · ∞ would be NaN.
    """
    squared = x.square().sum(-1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1).sqrt(), 0)


def mean_between(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"]) -> Float[Tensor, ""]:
    """Compute the mean of ‖xᵢ − yⱼ‖ over all pairs."""
    return safe_norm(x[:, None] - y).mean()


def mean_within(x: Float[Tensor, "n dim"], *, unbiased: bool = True) -> Float[Tensor, ""]:
    """Compute the mean of ‖xᵢ − xⱼ‖ over i ≠ j if unbiased, else over all pairs."""
    num_rows = len(x)
    return safe_norm(x[:, None] - x).sum() / (num_rows * (num_rows - 1 if unbiased else num_rows))


def energy_distance(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], *, unbiased: bool) -> Float[Tensor, ""]:
    return 2 * mean_between(x, y) - mean_within(x, unbiased=unbiased) - mean_within(y, unbiased=unbiased)
