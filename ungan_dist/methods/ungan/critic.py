"""The critic D, the paper's discriminator: three linear layers with ReLU between them, held as its six weights.

Its forward pass is part of the losses in ``ungan_dist.kernels``, which take the weights.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def critic_weights(
    num_classes: int, widths: tuple[int, int, int], *, seed: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """W1, b1, W2, b2, W3, b3 with the distribution of nn.Linear's own initial weights, uniform in ±1/√fan_in.

    Drawn in float64 on the CPU: one seed gives the same critic on every device, rounded to the type asked for.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: list[Tensor] = []
    fan_in = 2 * num_classes
    for width in widths:
        for shape in ((width, fan_in), (width,)):
            draw = torch.rand(shape, generator=generator, dtype=torch.float64)
            weights.append(((2 * draw - 1) / math.sqrt(fan_in)).to(device, dtype).requires_grad_())
        fan_in = width
    return weights


def critic_rows(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], seen: Literal["logits", "softmax"]
) -> Float[Tensor, "batch features"]:
    """z: what the critic sees of a model's outputs, beside the one-hot labels."""
    outputs = logits.softmax(1) if seen == "softmax" else logits
    return torch.cat([outputs, functional.one_hot(labels, logits.shape[1]).to(logits.dtype)], dim=1)
