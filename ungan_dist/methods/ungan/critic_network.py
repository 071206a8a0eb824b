"""The critic D (the paper's discriminator): three linear layers with ReLU between them, stored as six weights.

Its forward pass is part of the losses in ``ungan_dist.kernels``, which take these weights.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.kernels import CriticOptions


def init_critic(
    num_classes: int, widths: tuple[int, int, int], *, seed: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Draw W1, b1, W2, b2, W3, b3 uniformly in ±1/√fan_in, as nn.Linear initialises its weights.

    The draw is in float64 on the CPU, so one seed gives the same critic on every device, rounded to ``dtype``.
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


def build_critic_input(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], form: Literal["logits", "softmax"]
) -> Float[Tensor, "batch features"]:
    """Return z: the model's outputs, as logits or probabilities, beside one-hot labels."""
    outputs = logits.softmax(1) if form == "softmax" else logits
    return torch.cat([outputs, one_hot(labels, logits.shape[1], logits.dtype)], dim=1)


def one_hot(labels: Int[Tensor, " batch"], num_classes: int, dtype: torch.dtype) -> Float[Tensor, "batch classes"]:
    """Return one-hot labels; torch's own function reads the labels on the host.

    Examples:
        >>> one_hot(torch.tensor([1, 0]), 2, torch.float32)
        tensor([[0., 1.],
                [1., 0.]])
    """
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).to(dtype)


def critic_options(config: UnGANConfig) -> CriticOptions:
    """Return the part of the config that the critic's losses depend on."""
    return CriticOptions(
        penalty=config.penalty,
        penalty_of=config.penalty_of,
        penalty_weight=config.penalty_weight,
        estimator=config.estimator,
        surrogate=config.surrogate,
        mix_labels=config.mix_labels,
    )
