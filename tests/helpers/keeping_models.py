"""Factories of models that ``copy.deepcopy`` refuses, or that keep more than parameters; in order, all of them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class KeepsFeatures(nn.Module):
    """Keeps tensors of the forward pass, as Grad-CAM and distillation code does, in every kind of place."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, num_classes)
        self.kept: dict[str, list[Tensor]] = {}
        self.head.register_forward_hook(self.keep)
        self.history: tuple[Tensor, ...] = ()

    def keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        self.kept["logits"] = [logits]

    def forward(self, images: Tensor) -> Tensor:
        self.features = functional.relu(self.body(images.flatten(1)))
        self.history = (self.features, self.head(self.features))
        return self.history[1]


def weight_norm(num_classes: int) -> nn.Module:
    """The old function, which keeps the product as a tensor with a graph."""
    first = nn.utils.weight_norm(nn.Linear(64, 16))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(16, num_classes))


def spectral_norm(num_classes: int) -> nn.Module:
    first = nn.utils.spectral_norm(nn.Linear(64, 16))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(16, num_classes))


class Locked(nn.Module):
    """Holds locks and a module of Python's."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head, self.numpy = nn.Linear(64, num_classes), np
        self.lock, self.locks = threading.Lock(), [threading.RLock(), threading.Condition()]

    def forward(self, images: Tensor) -> Tensor:
        with self.lock, self.locks[0], self.locks[1]:
            return self.head(images.flatten(1))


class Unpicklable(nn.Module):
    """Holds a generator, of which no copy can be made but by building the model anew."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)
        self.scales = (1.0 for _ in range(10**9))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)) * next(self.scales)


class HooksItself(nn.Module):
    """A function that holds the model fills what the model reads: a deep copy reads what the original saw."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, num_classes)
        self.seen: dict[str, Tensor] = {}
        self.body.register_forward_hook(lambda layer, inputs, output: self.seen.update(body=output))

    def forward(self, images: Tensor) -> Tensor:
        self.body(images.flatten(1))
        return self.head(functional.relu(self.seen["body"]))


class Tempered(nn.Module):
    """Divides logits by a temperature that training raises; it is no tensor, and is in the extra state."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head, self.temperature = nn.Linear(64, num_classes), 1.0

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.temperature += 0.125
        return self.head(images.flatten(1)) / self.temperature

    def get_extra_state(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "of": ("logits", [1, 2]), "scale": torch.ones(2)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        assert state["of"] == ("logits", [1, 2])
        self.temperature = state["temperature"]


class Tied(nn.Module):
    """Uses one matrix twice, and a constant buffer that is not in the state."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, num_classes)
        self.second.weight = self.first.weight
        self.register_buffer("window", torch.linspace(0.5, 1, 64), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.first(images.flatten(1) * self.window))
        return self.head(functional.relu(self.second(hidden)))


def mlp_bn(num_classes: int) -> nn.Module:
    """Batch norm after flatten: one example is one value per channel."""
    layers = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, num_classes))
