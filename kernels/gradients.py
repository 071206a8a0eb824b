"""What the fused operations' backward passes share: gradients made in the forward pass, scaled by what arrives."""

# Annotations are not lazy here: torch reads an operation's schema from them, also through a type checker's wrapper.

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.library.custom_op("ungan_dist::scale_gradients", mutates_args=())
def scale_gradients(arriving: Tensor, gradients: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """``arriving · gradients`` in the inputs' type.

    ``inputs`` are read for their type alone, and named so that autograd sees the result depend on them: with no formula
    registered here a second derivative raises, where it would otherwise be dropped in silence.
    """
    return torch.mul(gradients, arriving, out=torch.empty_like(gradients, dtype=inputs[0].dtype))


@scale_gradients.register_fake
def _(arriving: Tensor, gradients: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    return torch.empty_like(gradients, dtype=inputs[0].dtype)


def unflatten(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Consecutive pieces of a flat tensor in the shapes of others."""
    pieces = flat.split([tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]


def multiply_rows(parts: Tensor, arriving: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of the parts in their order, times what arrives, in one type."""
    return parts.sum(0).mul_(arriving).to(dtype)
