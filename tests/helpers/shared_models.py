"""User models named on the command line, some of which several processes cannot share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Viewing(nn.Module):
    """Flatten by the number of rows, which fails on an empty batch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(64, num_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.last(pictures.view(pictures.size(0), -1))


class Activated(nn.BatchNorm2d):
    """A batch norm with an additional operation."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.relu(super().forward(input))


def convolving(num_classes: int, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))


def activated(num_classes: int) -> nn.Module:
    return convolving(num_classes, Activated(4))


def hooked(num_classes: int) -> nn.Module:
    model = convolving(num_classes, nn.BatchNorm2d(4))
    model[1].register_forward_hook(lambda module, inputs, output: output * 2)
    return model


def without_statistics(num_classes: int) -> nn.Module:
    return convolving(num_classes, nn.BatchNorm2d(4, track_running_stats=False))


def dropping(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, num_classes))


class Twice(nn.Module):
    """A model with one batch norm used twice, and an unused layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.again = self.norm
        self.last, self.unused = nn.Linear(144, num_classes), nn.Linear(3, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        once = functional.relu(self.norm(self.first(pictures)))
        return self.last(functional.relu(self.again(self.second(once))).flatten(1))


class Counting(nn.Module):
    """A model with a buffer that depends on its input rows."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(64, num_classes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, pictures: Tensor) -> Tensor:
        if self.training:
            self.seen += pictures.sum().detach()
        return self.last(pictures.flatten(1))
