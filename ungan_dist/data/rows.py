"""The rows of a pass: examples in order with their random crops, drawn once on the host and uploaded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.crops import draw_augmentation


@dataclass(frozen=True, kw_only=True)
class ImageTransform:
    """Augmentation and shift of images. Every loader returns the same bits for the same transform."""

    augment: AugmentConfig | None = None
    """Random crop and flip; defaults to none."""
    seed: int = 0
    """Seed of the random draws, which depend on (seed, epoch, example)."""
    epoch: int = 0
    shift: int = 0
    """Shift to the right and down in pixels, for the attack's queries. New pixels are 0."""
    flip: bool = False
    """Mirror every image."""

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn."""
        return self.augment is not None and (bool(self.augment.padding or self.augment.flip) or self.is_transformed)

    @property
    def is_transformed(self) -> bool:
        """Whether a transform of the user's own changes the images, on the host's order."""
        return self.augment is not None and self.augment.factory is not None


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Examples in order. A slice has the rows of a batch, and waits for no device."""

    view: ImageTransform
    host: Int[np.ndarray, " rows"]
    """Indices of the examples, on the host."""
    indices: Int[Tensor, " rows"]
    """The same indices, on the device of the data."""
    crops: Int[Tensor, "3 rows"] | None = None
    """Corner and flip of each row, see ``draw_augmentation``; None without augmentation."""
    images: Shaped[Tensor, "rows channels ..."] | None = None
    """The images, where they were read before; a slice has none."""

    def __len__(self) -> int:
        return len(self.host)

    def __getitem__(self, rows: slice) -> Rows:
        crops = None if self.crops is None else self.crops[:, rows]
        return Rows(view=self.view, host=self.host[rows], indices=self.indices[rows], crops=crops)


def upload(array: Shaped[np.ndarray, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Copy an array to a device; the host does not wait for the copy."""
    return upload_tensor(torch.from_numpy(array), device)


def upload_ahead(
    batches: Iterable[Shaped[Tensor, "batch ..."]], device: torch.device
) -> Iterator[Shaped[Tensor, "batch ..."]]:
    """Copy batches to a device, each while the one before is used.

    Args:
        batches: Batches of the host; each may be overwritten when the next is requested.
        device: The device; batches for a CPU are passed on.
    """
    if device.type == "cpu":
        yield from batches
        return
    ready: Tensor | None = None
    for batch in batches:
        copied = upload_tensor(batch, device)
        if ready is not None:
            yield ready
        ready = copied
    if ready is not None:
        yield ready


def upload_tensor(tensor: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """Copy a tensor of the host to a device; see ``upload``. It may be overwritten afterwards."""
    if device.type == "cpu":
        return tensor
    if device.type == "cuda":  # from other memory, the driver copies first
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def draw_rows(host: Int[np.ndarray, " rows"], view: ImageTransform, device: torch.device) -> Rows:
    """Draw the crops of these examples, and upload indices and crops together.

    Examples:
        >>> view = ImageTransform(augment=AugmentConfig(padding=2), seed=1)
        >>> rows = draw_rows(np.array([5, 3, 5]), view, torch.device("cpu"))
        >>> rows.indices.tolist(), rows.crops.shape, len(rows[1:])
        ([5, 3, 5], torch.Size([3, 3]), 2)
    """
    host = host.astype(np.int64, copy=False)
    if view.augment is None or not view.is_random:
        return Rows(view=view, host=host, indices=upload(host, device))
    everything = upload(np.stack([host, *draw_augmentation(view.seed, view.epoch, host, view.augment)]), device)
    return Rows(view=view, host=host, indices=everything[0], crops=everything[1:])


def shuffle(size: int, seed: int) -> Int[np.ndarray, " size"]:
    """Draw a random order."""
    return np.random.Generator(np.random.Philox(seed)).permutation(size)


def split_pass(size: int, batch_size: int) -> Iterator[slice]:
    """Divide a pass into batches. A last batch of one joins the one before: batch norm needs two.

    Examples:
        >>> [(batch.start, batch.stop) for batch in split_pass(9, 4)]
        [(0, 4), (4, 9)]
    """
    starts = list(range(0, size, batch_size))
    if len(starts) > 1 and size - starts[-1] == 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], size], strict=True):
        yield slice(start, end)
