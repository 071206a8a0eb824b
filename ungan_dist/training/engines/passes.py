"""One pass of captured training steps over a set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, draw_augmentation, gather, gather_batches, iterate_batches
from ungan_dist.data.seeds import derive_seed
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
) -> float:
    """Run one shuffled pass as ``train_pass`` does, with captured steps; the host waits once, at the end.

    Returns:
        Mean loss over the steps.
    """
    steps.prepare(optimizer)
    total, num_steps = torch.zeros((), dtype=data.table.dtype, device=data.device), 0
    batches = list(iterate_batches(indices, batch_size, seed=seed, epoch=epoch))
    for batch, inputs in zip(batches, read_inputs(data, batches, augment, seed=seed, epoch=epoch), strict=True):
        step = make_step(model, data, optimizer, loss, augment)
        # one example takes another way through batch norm, which depends on the model
        take = steps.take if len(batch) > 1 else _take_eagerly
        total += take((model, optimizer, loss, augment), step, labels[batch], *inputs)
        num_steps += 1
    return float(total) / num_steps


def read_inputs(
    data: Examples,
    batches: Sequence[Int[Tensor, " _"]],
    augment: AugmentConfig | None,
    *,
    seed: int,
    epoch: int,
    is_alone: bool = True,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield what a step needs of each batch: indices and their draws, or images if those are in a file.

    Args:
        data: The data set.
        batches: Indices of each batch.
        augment: Random crop and flip.
        seed: Seed of the pass.
        epoch: Epoch of the pass.
        is_alone: Whether a file is read ahead, which one pass at a time can do.
    """
    seed = derive_seed("augment", seed)
    if not isinstance(data.images, Tensor):
        if is_alone:
            read = gather_batches(data, batches, augment=augment, seed=seed, epoch=epoch)
        else:
            read = (gather(data, batch, augment=augment, seed=seed, epoch=epoch) for batch in batches)
        yield from ((images,) for images in read)
        return
    if augment is None or not (augment.padding or augment.flip):
        yield from ((batch,) for batch in batches)
        return
    order = torch.cat(list(batches)).cpu().numpy()
    draws = torch.stack([torch.from_numpy(draw) for draw in draw_augmentation(seed, epoch, order, augment)])
    parts = draws.to(data.device).split([len(batch) for batch in batches], dim=1)
    yield from zip(batches, (part.contiguous() for part in parts), strict=True)


def make_step(
    model: nn.Module, data: Examples, optimizer: torch.optim.Optimizer, loss: Loss, augment: AugmentConfig | None
) -> Callable[..., Tensor]:
    """Make a step on labels and on the inputs of ``read_inputs``."""

    def step(labels: Tensor, *inputs: Tensor) -> Tensor:
        images = read_images(data, augment, *inputs)
        optimizer.zero_grad(set_to_none=True)
        mean = loss(forward(model, images), labels)
        mean.backward()
        optimizer.step()
        return mean.detach()

    return step


def read_images(data: Examples, augment: AugmentConfig | None, first: Tensor, draws: Tensor | None = None) -> Tensor:
    """Return the images of a batch from the inputs of ``read_inputs``."""
    if not isinstance(data.images, Tensor):
        return first
    _, height, width, channels = data.images.shape
    if augment is None or draws is None:
        pixels = data.images.index_select(0, first)
    else:
        top, left, mirrored = draws[:, :, None]
        rows = torch.arange(height, device=first.device) + top - augment.padding
        columns = torch.arange(width, device=first.device)
        columns = torch.where(mirrored == 1, width - 1 - columns, columns) + left - augment.padding
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        pixels = data.images[
            first[:, None, None], rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
        ]
        pixels = torch.where(inside[..., None], pixels, 0)
    normalised = data.table[pixels.long(), torch.arange(channels, device=first.device)]
    return normalised.permute(0, 3, 1, 2).contiguous()


def _take_eagerly(name: object, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    del name
    return step(*inputs)
