"""Methods, a training function, an augmentation and a model of the user's own that change what others read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ungan_dist.data.prepared import open_examples
from ungan_dist.methods import Request
from ungan_dist.training.models import SmallCNN

SHARED: tuple[Any, ...] = ()
"""What ``open_examples`` was called with."""


def change_labels(request: Request) -> nn.Module:
    chosen = request.forget
    request.data.labels[chosen] = (request.data.labels[chosen] + 1) % 10
    return request.copy_original()


def images_and_raise(request: Request) -> nn.Module:
    assert isinstance(request.data.images, Tensor)
    request.data.images[request.forget] = 0
    raise RuntimeError("out of ideas")


def images_by_numpy(request: Request) -> nn.Module:
    assert isinstance(request.data.images, Tensor)
    request.data.images.numpy()[-1, -1, -1, -1] ^= 1
    return request.copy_original()


def change_table(request: Request) -> nn.Module:
    request.data.table.mul_(2)
    return request.copy_original()


def change_retain(request: Request) -> nn.Module:
    request.retain[0] = request.forget[0]
    return request.copy_original()


def change_original(request: Request) -> nn.Module:
    with torch.no_grad():
        next(request.original.parameters()).zero_()
    return request.copy_original()


def change_fresh(request: Request) -> nn.Module:
    with torch.no_grad():
        next(request.fresh.parameters()).zero_()
    return request.copy_original()


def change_default_dtype(request: Request) -> nn.Module:
    torch.set_default_dtype(torch.float64)
    return request.copy_original()


def two_settings_and_raise(request: Request) -> nn.Module:
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True)
    raise RuntimeError("out of ideas")


def spoil_labels() -> None:
    """Change the labels that this process has opened."""
    open_examples(*SHARED).labels.zero_()


def fit(model: nn.Module, dataset: Any, **_: Any) -> nn.Module:
    spoil_labels()
    return model


def augment() -> Callable[[Tensor], Tensor]:
    def spoil(image: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        return image

    return spoil


class Net(SmallCNN):
    """Spoils the labels whenever it is called in eval mode, thus when it is evaluated."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(channels, num_classes, 4)

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            spoil_labels()
        return super().forward(images)
