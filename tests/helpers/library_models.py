"""Functions with the signatures of torchvision's and timm's, whose models take colour images by default."""

from __future__ import annotations

import enum
from typing import Any

import torch
from torch import Tensor, nn


class Weights(enum.Enum):
    DEFAULT = "https://example.org/weights.pth"


class _Net(nn.Module):
    def __init__(self, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4))
        self.body = nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(self.stem(images).relu()).mean((2, 3)))


def like_torchvision(*, weights: Weights | None = None, progress: bool = True, **options: Any) -> nn.Module:
    del progress
    assert weights is None
    return _Net(**options)


def like_timm(pretrained: bool = False, **options: Any) -> nn.Module:
    assert not pretrained
    return _Net(**options)


def create_model(model_name: str, pretrained: bool = False, **options: Any) -> nn.Module:
    """As ``timm.create_model``."""
    if model_name != "small_net.tag":
        raise RuntimeError(f"Unknown model ({model_name})")
    assert not pretrained
    assert options["in_chans"] in (1, 3)
    return _Net(**options)


def by_flag(pretrained: bool = True, **options: Any) -> nn.Module:
    raise AssertionError("called")


def by_member(*, weights: Weights | None = Weights.DEFAULT, **options: Any) -> nn.Module:
    raise AssertionError("called")


def by_name(num_classes: int, weights: str = "IMAGENET1K_V1") -> nn.Module:
    raise AssertionError("called")


def by_backbone(num_classes: int, weights_backbone: Weights | None = Weights.DEFAULT) -> nn.Module:
    raise AssertionError("called")


def by_encoder(num_classes: int, encoder_weights: str | None = "imagenet") -> nn.Module:
    raise AssertionError("called")


def with_numbers(num_classes: int, weights: tuple[float, ...] = (1.0, 2.0), pretrained: bool = False) -> nn.Module:
    """Parameters of these names that load nothing."""
    del weights, pretrained
    return _Net(num_classes)


class RepeatsGrey(_Net):
    """Brings grey images to three channels itself."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.repeat(1, 3, 1, 1))


class Normalises(_Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images - 0.5).to(memory_format=torch.channels_last))


class Grouped(_Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem[0] = nn.Conv2d(3, 6, 3, groups=3)


class _Own(nn.Conv2d):
    pass


class OwnConvolution(_Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem[0] = _Own(3, 4, 3)


class InTwoPlaces(_Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.again = self.stem[0]


class FrozenStem(_Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem.requires_grad_(False)


class FrozenBias(_Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem[0] = nn.Conv2d(3, 4, 3)
        self.stem[0].bias.requires_grad_(False)


class HookedStem(_Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.stem[0].register_forward_hook(lambda _layer, _given, made: 2 * made)
