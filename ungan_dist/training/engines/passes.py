"""Captured steps over rows of examples, and one pass of them over a set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, draw_batches, gather_batches, gather_rows
from ungan_dist.data.rows import Rows
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.engines.capture import CapturedSteps

Loss = Callable[[Tensor, Tensor], Tensor]


def captured_pass(
    steps: CapturedSteps,
    model: nn.Module,
    data: Examples,
    indices: Int[Tensor, " set"],
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augment: AugmentConfig | None,
    labels: Int[Tensor, " examples"],
    loss: Loss,
    rates: Sequence[float] | None = None,
) -> float:
    """Run one shuffled pass as ``train_pass`` does, with captured steps; the host waits once, at the end.

    Args:
        rates: The learning rate of each step; defaults to the optimizer's own.

    Returns:
        Mean loss over the steps.
    """
    steps.prepare(optimizer)
    step = make_step(model, data, optimizer, loss)
    batches = draw_batches(data, indices, batch_size, seed=seed, epoch=epoch, augment=augment)
    total = torch.zeros((), dtype=data.table.dtype, device=data.device)
    for number, rows in enumerate(read_ahead(data, batches)):
        if rates is not None and (not number or rates[number] != rates[number - 1]):
            optimizer.param_groups[0]["lr"] = rates[number]
            steps.prepare(optimizer)
        wanted = labels[rows.indices]
        # one example takes another way through batch norm, which depends on the model
        is_one = len(rows) == 1
        total += step(rows, wanted) if is_one else take_rows(steps, (model, optimizer, loss), step, rows, wanted)
    return float(total) / len(batches)


def make_step(
    model: nn.Module, data: Examples, optimizer: torch.optim.Optimizer, loss: Loss
) -> Callable[[Rows, Tensor], Tensor]:
    """Make an optimizer step on rows and their labels."""

    def step(rows: Rows, labels: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        mean = loss(forward(model, gather_rows(data, rows)), labels)
        mean.backward()
        optimizer.step()
        return mean.detach()

    return step


def take_rows(steps: CapturedSteps, name: Hashable, step: Callable[..., Tensor], *inputs: Rows | Tensor) -> Tensor:
    """Take a captured step whose inputs may be rows; their images must be resident or read already.

    Args:
        steps: The captured steps.
        name: Tells steps apart; see ``CapturedSteps.take``.
        step: The step.
        inputs: Its arguments.
    """
    tensors = [_tensors_of(one) for one in inputs]

    def on_tensors(*flat: Tensor) -> Tensor:
        left = iter(flat)
        return step(
            *(_replace(one, [next(left) for _ in own]) for one, own in zip(inputs, tensors, strict=True)),
        )

    return steps.take(name, on_tensors, *(tensor for own in tensors for tensor in own))


def _tensors_of(one: Rows | Tensor) -> list[Tensor]:
    parts = [one] if isinstance(one, Tensor) else [one.indices, one.crops, one.images]
    return [part for part in parts if part is not None]


def _replace(one: Rows | Tensor, tensors: list[Tensor]) -> Rows | Tensor:
    if isinstance(one, Tensor):
        return tensors[0]
    left = iter(tensors)
    names = [name for name in ("indices", "crops", "images") if getattr(one, name) is not None]
    return dataclasses.replace(one, **{name: next(left) for name in names})


def read_ahead(data: Examples, batches: Sequence[Rows]) -> Iterator[Rows]:
    """Yield batches with their images, if no captured step can read them; each is valid until the next is requested."""
    if not batches or _can_be_captured(data, batches[0]):
        yield from batches
        return
    for rows, images in zip(batches, gather_batches(data, batches), strict=True):
        yield dataclasses.replace(rows, images=images)


def read_rows(data: Examples, rows: Rows) -> Rows:
    """Return rows with their images, if no captured step can read them."""
    return rows if _can_be_captured(data, rows) else dataclasses.replace(rows, images=gather_rows(data, rows))


def _can_be_captured(data: Examples, rows: Rows) -> bool:
    """Whether the images are resident, and only our own operations change them."""
    return isinstance(data.images, Tensor) and not rows.view.is_transformed


def without_fused_crops(data: Examples) -> Examples:
    """Return the data with crops that are drawn as tensors, since a fused kernel takes the epoch as a constant."""
    return dataclasses.replace(data, fused=data.fused - {"gather_augmented"})
