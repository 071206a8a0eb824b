"""The one training loop: original, Retrain, shadow models; and the pass that the baselines share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import Examples, gather_batches, iterate_batches
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.batch_norm import own_statistics
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.world import ALONE, World


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


def descend(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    *models: nn.Module,
    share: int,
    num_rows: int,
    world: World = ALONE,
) -> Tensor:
    """One optimizer step on the sum of all processes' parts of a loss.

    Args:
        models: whose running statistics the step's forward passes have moved.
        share: rows of the global batch that this process's part is made of, out of ``num_rows``.

    Returns:
        The part, before the step.
    """
    optimizer.zero_grad(set_to_none=True)
    if loss.requires_grad:  # an empty share's part may hang on nothing
        loss.backward()
    everything = (parameter for group in optimizer.param_groups for parameter in group["params"])
    parameters = (parameter for parameter in everything if parameter.requires_grad)  # others have no gradient to sum
    world.reduce(parameters, share=share, num_rows=num_rows, statistics=own_statistics(*models))
    optimizer.step()
    return loss.detach()


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
    world: World = ALONE,
) -> float:
    """One shuffled pass of optimizer steps over a set, each step on a batch that all processes share.

    Args:
        labels: labels of the whole data set to use in place of its own.
        loss_of: logits and labels → scalar loss, a mean over rows.

    Returns:
        The mean loss over the pass's steps.
    """
    labels = data.labels if labels is None else labels
    total, num_steps = torch.zeros((), device=data.device), 0
    global_batches = list(iterate_batches(indices, batch_size, seed=seed, epoch=epoch))
    shares = [world.share(batch) for batch in global_batches]
    pictures = gather_batches(data, shares, augment=augment, seed=derive_seed("augment", seed), epoch=epoch)
    for batch, share, images in zip(global_batches, shares, pictures, strict=True):
        logits = model(images)
        loss = world.part(lambda: loss_of(logits, labels[share]), len(share), len(batch), logits)  # noqa: B023 - at once
        loss = descend(loss, optimizer, model, share=len(share), num_rows=len(batch), world=world)
        total, num_steps = total + loss, num_steps + 1
    return float(world.sum(total)) / num_steps


def train(
    model: nn.Module,
    data: Examples,
    indices: Int[Tensor, " set"],
    config: TrainConfig,
    *,
    seed: int,
    world: World = ALONE,
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """Trains a model in place by the recipe, and leaves it in eval mode.

    Args:
        checkpoint: where each epoch's state is kept and continued from.

    Returns:
        Mean cross-entropy of each epoch, in nats.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    model.train()
    losses: list[float] = []
    epochs = Epochs(checkpoint, world, seed, model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.of("train", config.epochs):
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
                world=world,
            )
        )
    model.eval()
    return losses
