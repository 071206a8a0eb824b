"""A user's own augmentations, as ``module:function``."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor


def noise() -> Callable[[Tensor], Tensor]:
    """Add noise to an image with probability one half."""

    def add(image: Tensor) -> Tensor:
        drawn = torch.randint(0, 9, image.shape, dtype=torch.uint8)
        return torch.where(torch.rand(()) < 0.5, image, image.clamp(max=240) + drawn)

    return add


def rand_augment() -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    return v2.Compose([v2.RandAugment(), v2.RandomErasing(p=0.5)])


def solarise() -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    return v2.RandomSolarize(100, p=1.0)


def by_random() -> Callable[[Tensor], Tensor]:
    return lambda image: image ^ random.randrange(256)


def counting() -> Callable[[Tensor], Tensor]:
    calls: list[int] = []

    def count(image: Tensor) -> Tensor:
        calls.append(1)
        return image ^ (len(calls) % 256)

    return count


def to_float() -> Callable[[Tensor], Tensor]:
    return lambda image: image / 255


def no_transform() -> None:
    return None
