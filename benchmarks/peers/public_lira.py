"""Shadow models as public LiRA code trains them: Pillow images, transforms of torchvision, a Subset and a DataLoader.

Stated after train.py of https://github.com/orientino/lira-pytorch at 50dc2a3: random crops of padded images, then
normalisation, one model after another. Its DataLoader has four processes; here it has none, which is faster on a few
cores. Nothing here imports the project.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms

from peers.plain import Training, log_odds


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures in memory, as ``torchvision.datasets.CIFAR10`` has them."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        self._pixels, self._labels, self._transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), int(self._labels[index])


def train_shadow(
    make_model: Callable[[], nn.Module],
    pixels: np.ndarray,
    labels: np.ndarray,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    members: np.ndarray,
    training: Training,
    seed: int,
) -> np.ndarray:
    """Train the shadow model of one seed, and return its log-odds on all examples."""
    torch.manual_seed(seed)
    plain = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    crop = transforms.RandomCrop(pixels.shape[1], padding=training.padding)
    data = Subset(Pictures(pixels, labels, transforms.Compose([crop, *plain])), np.flatnonzero(members).tolist())
    loader = DataLoader(data, batch_size=training.batch_size, shuffle=True)
    model = make_model()
    optimizer = torch.optim.SGD(
        model.parameters(), training.learning_rate, momentum=training.momentum, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs)
    for _ in range(training.epochs):
        model.train()
        for batch, classes in loader:
            loss = functional.cross_entropy(model(batch), classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    asked = Pictures(pixels, labels, transforms.Compose(plain))
    batches = DataLoader(asked, batch_size=training.batch_size)
    return np.concatenate([log_odds(model.eval(), batch, classes) for batch, classes in batches])
