"""LiRA's shadow models as a plain PyTorch script trains them: one after another, with torch's DataLoader.

Nothing here imports the project, so that tests may compare it with this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True, kw_only=True)
class Training:
    """SGD with a cosine schedule, on randomly shifted images."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    padding: int
    border: Tensor
    """Normalised values of a black pixel, [channels, 1, 1], with which images are padded."""


class Shifted(Dataset[tuple[Tensor, Tensor]]):
    """Normalised images in memory, each shifted at random when it is read."""

    def __init__(self, images: Tensor, labels: Tensor, padding: int, border: Tensor) -> None:
        self._images = functional.pad(images - border, (padding,) * 4) + border
        self._labels, self._padding, self._size = labels, padding, images.shape[-1]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        top, left = torch.randint(0, 2 * self._padding + 1, (2,)).tolist()
        return self._images[index, :, top : top + self._size, left : left + self._size], self._labels[index]


def train(model: nn.Module, images: Tensor, labels: Tensor, training: Training) -> nn.Module:
    """Train a model on float images [examples, channels, height, width]."""
    loader = DataLoader(
        Shifted(images, labels, training.padding, training.border), batch_size=training.batch_size, shuffle=True
    )
    optimizer = torch.optim.SGD(
        model.parameters(), training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs)
    model.train()
    for _ in range(training.epochs):
        for batch, classes in loader:
            optimizer.zero_grad()
            functional.cross_entropy(model(batch), classes).backward()
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def log_odds(model: nn.Module, images: Tensor, labels: Tensor) -> np.ndarray:
    """Return log(p / (1 − p)) of the true class, in float64."""
    logits = model(images).double()
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    return (true - others).numpy()


def train_shadow(
    make_model: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    members: np.ndarray,
    training: Training,
    seed: int,
) -> np.ndarray:
    """Train the shadow model of one seed, and return its log-odds on all examples."""
    torch.manual_seed(seed)
    chosen = torch.from_numpy(members)
    return log_odds(train(make_model(), images[chosen], labels[chosen], training), images, labels)


def train_shadow_alone(*job: Any) -> np.ndarray:
    """Train as ``train_shadow`` does, with one thread, because other processes train beside this one."""
    torch.set_num_threads(1)
    return train_shadow(*job)
