"""Shared by the backward passes of fused operations: scale gradients computed in the forward pass."""

# Annotations are not lazy here: torch reads an operation's schema from them, also through a type checker's wrapper.

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.library.custom_op("ungan_dist::scale_gradients", mutates_args=())
def scale_gradients(arriving: Tensor, gradients: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Return ``arriving · gradients`` in the inputs' type.

    The result depends on ``inputs`` for autograd, although only their type is used. No derivative is registered, so a
    second derivative raises instead of being dropped silently.
    """
    return torch.mul(gradients, arriving, out=torch.empty_like(gradients, dtype=inputs[0].dtype))


@scale_gradients.register_fake
def _(arriving: Tensor, gradients: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    return torch.empty_like(gradients, dtype=inputs[0].dtype)


def unflatten(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Split a flat tensor into consecutive pieces with the shapes of others."""
    pieces = flat.split([tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]


def multiply_rows(parts: Tensor, arriving: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum the parts in order and multiply by the incoming gradient."""
    return parts.sum(0).mul_(arriving).to(dtype)
