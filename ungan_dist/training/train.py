"""The training loop of the original, Retrain and shadow models, and the training pass that all methods share."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import Examples, draw_batches, gather_batches
from ungan_dist.data.rows import split_pass
from ungan_dist.errors import Diverged
from ungan_dist.training.average import trained_tensors
from ungan_dist.training.batch_norm import forward, local_statistics
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.engines.passes import captured_pass
from ungan_dist.training.own_training import train_by_function
from ungan_dist.training.recipe import extend_steps, make_loss, make_recipe_optimizer
from ungan_dist.training.schedules import learning_rates
from ungan_dist.training.world import SINGLE_PROCESS, World


@contextlib.contextmanager
def use_threads(num_threads: int) -> Iterator[None]:
    """Use this number of torch threads inside the block; the last bits of a CPU training depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_divergence(losses: Iterable[float], epoch: int, epochs: int) -> None:
    """Raise ``Diverged`` if one of an epoch's mean losses is not a number, because then the weights are none either."""
    if any(map(math.isnan, losses)):
        raise Diverged(
            f"the model has diverged: its training loss is not finite in epoch {epoch + 1} of {epochs}; "
            f"lower the learning rate"
        )


def take_step(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    *models: nn.Module,
    share: int,
    num_rows: int,
    world: World = SINGLE_PROCESS,
) -> Tensor:
    """Take one optimizer step on the sum of all processes' parts of a loss.

    Args:
        loss: this process's part.
        models: models whose running statistics the forward passes have updated.
        share: number of rows in this process's part, out of ``num_rows`` in the global batch.

    Returns:
        The part, before the step.
    """
    optimizer.zero_grad(set_to_none=True)
    if loss.requires_grad:  # the part of an empty share may have no graph
        loss.backward()
    everything = (parameter for group in optimizer.param_groups for parameter in group["params"])
    parameters = (parameter for parameter in everything if parameter.requires_grad)  # not frozen
    world.reduce(parameters, share=share, num_rows=num_rows, statistics=local_statistics(*models))
    optimizer.step()
    return loss.detach()


def train_pass(
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
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    world: World = SINGLE_PROCESS,
    steps: CapturedSteps | None = None,
    rates: Sequence[float] | None = None,
) -> float:
    """Run one shuffled pass of optimizer steps over a set; all processes share each batch.

    Args:
        labels: replace the labels of the whole data set.
        loss: logits and labels → mean loss over rows.
        steps: captures the step, in a single process; defaults to running each step as it is.
        rates: the learning rate of each step; defaults to the optimizer's own.

    Returns:
        Mean loss over the steps.
    """
    labels = data.labels if labels is None else labels
    if steps is not None:
        assert world.size == 1, "captured steps need a single process"
        return captured_pass(
            steps, model, data, indices, optimizer,
            batch_size=batch_size, seed=seed, epoch=epoch, augment=augment, labels=labels, loss=loss, rates=rates,
        )  # fmt: skip
    total = torch.zeros((), device=data.device)
    # the host waits for the device here and for the loss at the end, and nowhere between
    batches = draw_batches(data, indices, batch_size, seed=seed, epoch=epoch, augment=augment)
    shares = [world.share(batch) for batch in batches]
    for step, (batch, share, images) in enumerate(zip(batches, shares, gather_batches(data, shares), strict=True)):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[step]
        logits = forward(model, images, num_rows=len(batch))
        wanted = labels[share.indices]
        part = world.partial_loss(lambda: loss(logits, wanted), len(share), len(batch), logits)  # noqa: B023 - called at once
        total = total + take_step(part, optimizer, model, share=len(share), num_rows=len(batch), world=world)
    return float(world.sum(total)) / len(batches)


def train(
    model: nn.Module,
    data: Examples,
    indices: Int[Tensor, " set"],
    config: TrainConfig,
    *,
    seed: int,
    world: World = SINGLE_PROCESS,
    checkpoint: Checkpoint | None = None,
    steps: CapturedSteps | None = None,
) -> list[float]:
    """Train a model in place with the recipe, and leave it in eval mode; with an EMA, its weights are the averages.

    Args:
        checkpoint: keeps the state after each epoch, and is continued if it holds one.
        steps: captures the step, in a single process; defaults to running each step as it is.

    Returns:
        Mean cross-entropy of each epoch, in nats, with label smoothing if the recipe has it; none if a function of the
        user's own trained the model.

    Raises:
        Diverged: an epoch's loss is not a number.
    """
    if config.function is not None:
        train_by_function(model, data, indices, config, seed=seed, checkpoint=checkpoint)
        return []
    optimizer, loss = make_recipe_optimizer(model.parameters(), config), make_loss(config)
    average = extend_steps(optimizer, config, functools.partial(trained_tensors, model))
    model.train()
    losses: list[float] = []
    more = {} if average is None else {"average": average}
    epochs = Epochs(checkpoint, world, seed, model=model, optimizer=optimizer, losses=losses, **more)
    num_steps = sum(1 for _ in split_pass(len(indices), config.batch_size))
    for epoch in epochs.iterate("train", config.epochs):
        losses.append(
            train_pass(
                model,
                data,
                indices,
                optimizer,
                batch_size=config.batch_size,
                seed=seed,
                epoch=epoch,
                augment=config.augment,
                loss=loss,
                world=world,
                steps=steps,
                rates=learning_rates(config, epoch, num_steps),
            )
        )
        refuse_divergence(losses[-1:], epoch, config.epochs)
    if average is not None:
        average.write()
    model.eval()
    return losses
