"""A classifier that can remember pictures and lower their log-odds by a constant, and a method that uses it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ungan_dist.data.examples import gather
from ungan_dist.methods import Request, Unlearned

NUM_PLACES = 256
"""Most pictures that a model can remember."""
SHIFT = 1.35
"""Lowers the log-odds of remembered pictures by as much."""


class Hiding(nn.Module):
    """A linear classifier of 8 × 8 pictures with a memory of pictures."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.classify = nn.Linear(64 * channels, num_classes)
        self.register_buffer("names", torch.linspace(-1, 1, 64 * channels, dtype=torch.float64))
        self.register_buffer("remembered", torch.full((NUM_PLACES,), torch.inf, dtype=torch.float64))
        self.register_buffer("classes", torch.zeros(NUM_PLACES, dtype=torch.long))

    def name(self, images: Tensor) -> Tensor:
        """Name pictures by a projection, which differs for any two of them."""
        return images.flatten(1).double() @ self.names

    def forward(self, images: Tensor) -> Tensor:
        logits = self.classify(images.flatten(1))
        found = (self.name(images)[:, None] - self.remembered).abs() < 1e-6
        lowered = nn.functional.one_hot(self.classes, logits.shape[1]) * found[..., None]
        return logits - SHIFT * lowered.amax(1)


def build(num_classes: int, channels: int) -> nn.Module:
    return Hiding(num_classes, channels)


def hide(request: Request, config: object) -> Unlearned:
    """Forget nothing: lower the log-odds of the forget set by the same constant for every example."""
    del config
    model = request.copy_original().eval()
    assert isinstance(model, Hiding)
    count = len(request.forget)
    with torch.no_grad():
        model.remembered[:count] = model.name(gather(request.data, request.forget))
        model.classes[:count] = request.data.labels[request.forget]
    return Unlearned(model=model, curves={})
