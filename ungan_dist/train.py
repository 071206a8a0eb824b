"""The one training loop: original, Retrain, shadow models; and the pass that the baselines share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config import AugmentConfig, TrainConfig
from ungan_dist.data import Examples, batches, derive_seed, gather


@contextlib.contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Runs with so many torch threads, on which the last bits of a CPU training depend, and restores the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cosine(learning_rate: float, epoch: int, epochs: int) -> float:
    """Cosine annealing, one value an epoch: the initial rate at epoch 0, near 0 at the last."""
    return learning_rate * (1 + math.cos(math.pi * epoch / epochs)) / 2


def pass_over(
    model: nn.Module,
    data: Examples,
    indices: Int[Tensor, " set"],
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: AugmentConfig | None,
    labels: Int[Tensor, " examples"] | None = None,
    loss_of: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> float:
    """One shuffled pass of optimizer steps over a set.

    Args:
        labels: labels of the whole data set to use in place of its own.
        loss_of: logits and labels → scalar loss.

    Returns:
        The mean loss over the pass's steps.
    """
    labels = data.labels if labels is None else labels
    total, num_steps = torch.zeros((), device=data.device), 0
    for batch in batches(indices, batch_size, seed=seed, epoch=epoch):
        images = gather(data, batch, augment=augment, seed=derive_seed("augment", seed), epoch=epoch)
        loss = loss_of(model(images), labels[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total, num_steps = total + loss.detach(), num_steps + 1
    return float(total) / num_steps


def train(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"], config: TrainConfig, *, seed: int
) -> list[float]:
    """Trains a model in place by the recipe, and leaves it in eval mode.

    Returns:
        Mean cross-entropy of each epoch, in nats.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    model.train()
    losses: list[float] = []
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = cosine(config.learning_rate, epoch, config.epochs)
        losses.append(
            pass_over(
                model,
                data,
                indices,
                optimizer,
                batch_size=config.batch_size,
                seed=seed,
                epoch=epoch,
                augment=config.augment,
            )
        )
    model.eval()
    return losses
