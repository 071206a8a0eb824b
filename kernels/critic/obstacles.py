"""Reasons why the fused losses cannot run: the error text for ``impl="fused"``, else why the reference is used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ungan_dist.kernels.blocks import MAX_CRITIC_WIDTH
from ungan_dist.kernels.critic.options import CriticOptions


def find_options_obstacle(options: CriticOptions, *, generator: bool = False) -> str | None:
    """Return why these options have no fused loss, or None.

    Args:
        generator: the generator's loss, which has no penalty and is the same for both surrogates when paired.
    """
    if options.estimator != "paired":
        return f"it supports only estimator='paired', got {options.estimator!r}"
    if options.surrogate != "cramer" and not generator:
        return f"it supports only surrogate='cramer', got {options.surrogate!r}"
    if options.penalty_of not in ("critic", "embedding_sum") and not generator:
        return f"it supports penalty_of 'critic' and 'embedding_sum', got {options.penalty_of!r}"
    return None


def find_tensor_obstacle(*tensors: Tensor) -> str | None:
    """Return why these tensors cannot be operands together, or None."""
    kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
    if len(kinds) > 1 or tensors[0].dtype not in (torch.float32, torch.bfloat16):
        found = sorted(f"{dtype} on {device}" for dtype, device in kinds)
        return f"it takes float32 or bfloat16 tensors, all of one type on one device, got {', '.join(found)}"
    return None


def find_critic_obstacle(weights: Sequence[Tensor], *batches: Tensor) -> str | None:
    """Return why this critic and its inputs are not supported, or None."""
    width = max(max(weight.shape) for weight in weights)
    if width > MAX_CRITIC_WIDTH:
        return f"it supports widths up to {MAX_CRITIC_WIDTH}, got {width}"
    return find_tensor_obstacle(*weights, *batches)


def find_gradient_obstacle(*batches: Tensor) -> str | None:
    """Return why these inputs cannot be differentiated, or None."""
    if torch.is_grad_enabled() and any(z.requires_grad for z in batches):
        return "it differentiates with respect to the weights only: detach z and epsilon"
    return None


def find_layout_obstacle(weights: Sequence[Tensor]) -> str | None:
    """Return why these weights cannot be updated in place, or None."""
    if not all(weight.is_contiguous() for weight in weights):
        return "it updates the weights in place, so they must be contiguous"
    return None
