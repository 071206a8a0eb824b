"""Factories of unusual models: partly frozen, incomplete, or no model."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn


def frozen_body(num_classes: int, channels: int) -> nn.Module:
    """Transfer learning: only the head is trained."""
    body = nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()).requires_grad_(False)
    middle = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(body, middle, nn.Linear(24, num_classes))


def frozen_head(num_classes: int, channels: int) -> nn.Module:
    model = frozen_body(num_classes, channels)
    model[2].requires_grad_(False)
    return model


def all_frozen(num_classes: int, channels: int) -> nn.Module:
    return frozen_body(num_classes, channels).requires_grad_(False)


def lazy(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


class _WithoutParameters(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, : self.num_classes]


def without_parameters(num_classes: int) -> nn.Module:
    return _WithoutParameters(num_classes)


def not_finite(num_classes: int, channels: int) -> nn.Module:
    model = frozen_body(num_classes, channels)
    with torch.no_grad():
        model[2].weight.fill_(torch.nan)
    return model


def leaving(num_classes: int) -> nn.Module:
    sys.exit(0)


class _Leaving(nn.Linear):
    def forward(self, *images: Any) -> Tensor:
        sys.exit(0)


def leaving_when_asked(num_classes: int) -> nn.Module:
    return _Leaving(1, num_classes)


def talking(num_classes: int, channels: int) -> nn.Module:
    print("a factory speaks")
    return frozen_body(num_classes, channels)
