"""Read batches of examples: uint8 pixels, Philox augmentation and one normalisation table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.philox import philox
from ungan_dist.data.seeds import derive_seed
from ungan_dist.kernels import gather_augmented


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


@runtime_checkable
class ImageReader(Protocol):
    """Images in a file, read on demand."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Examples, height, width, channels."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the batches."""
        ...

    def gather(self, indices: Tensor, view: ImageTransform) -> Tensor:
        """Read one batch as float32."""
        ...

    def read(self, batches: Sequence[Tensor], view: ImageTransform) -> Iterator[Tensor]:
        """Read batches in order and ahead. Each is valid until the next is requested."""
        ...


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A data set in memory or in a file. Sets are tensors of indices into it."""

    images: UInt8[Tensor, "examples height width channels"] | ImageReader
    labels: Int[Tensor, " examples"]
    table: Float[Tensor, "256 channels"]
    """Normalisation: pixel value and channel → input of the model."""
    num_classes: int
    fused: frozenset[str] = frozenset()
    """Operations that run as fused kernels; all others run their reference."""

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[1], self.images.shape[2]

    def implementation(self, operation: str) -> Literal["reference", "fused"]:
        """Return the implementation of an operation."""
        return "fused" if operation in self.fused else "reference"


def make_normalisation_table(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "256 channels"]:
    """Compute ``(value / 255 − mean) / std``, rounded once to float32, so that all loaders share its bits."""
    values = np.arange(256, dtype=np.float64)[:, None] / 255
    table = ((values - np.asarray(mean)) / np.asarray(std)).astype(np.float32)
    return torch.from_numpy(table).to(dtype)


def draw_augmentation(
    seed: int, epoch: int, examples: Int[np.ndarray, " batch"], config: AugmentConfig
) -> tuple[Int[np.ndarray, " batch"], Int[np.ndarray, " batch"], Int[np.ndarray, " batch"]]:
    """Draw row and column of each crop's corner in the padded image, and whether it is mirrored (0 or 1)."""
    words = philox(seed, examples, epoch).astype(np.uint64)
    positions = np.uint64(2 * config.padding + 1)
    top, left = ((words[:, word] * positions) >> np.uint64(32) for word in (0, 1))
    mirrored = (words[:, 2] >> np.uint64(31)) * np.uint64(config.flip)
    return top.astype(np.int64), left.astype(np.int64), mirrored.astype(np.int64)


def gather(
    data: Examples,
    indices: Int[Tensor, " batch"],
    *,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    epoch: int = 0,
    shift: int = 0,
    flip: bool = False,
) -> Float[Tensor, "batch channels height width"]:
    """Read the normalised images of a batch, randomly augmented, or shifted and mirrored alike.

    Args:
        data: The data set.
        indices: Examples to read. The random draws depend on these indices.
        augment: Random crop and flip; defaults to none.
        seed: Seed of the random draws.
        epoch: Epoch of the random draws.
        shift: Shift to the right and down in pixels. New pixels are 0.
        flip: Mirror every image.
    """
    fused = augment is not None and not shift and not flip and data.implementation("gather_augmented") == "fused"
    if not isinstance(data.images, Tensor):
        view = ImageTransform(augment=augment, seed=seed, epoch=epoch, shift=shift, flip=flip)
        return _match_layout(data.images.gather(indices, view), data, fused)
    if augment is not None and fused:
        return gather_augmented(
            data.images, indices, data.table,
            seed=seed, epoch=epoch, padding=augment.padding, flip=augment.flip, impl="fused",
        )  # fmt: skip
    _, height, width, channels = data.images.shape
    rows = torch.arange(height, device=data.device).expand(len(indices), height)
    columns = torch.arange(width, device=data.device).expand(len(indices), width)
    if augment is not None and (augment.padding or augment.flip):
        top, left, mirrored = (
            torch.from_numpy(draw).to(data.device)[:, None]
            for draw in draw_augmentation(seed, epoch, indices.cpu().numpy(), augment)
        )
        columns = torch.where(mirrored == 1, width - 1 - columns, columns)
        rows, columns = rows + top - augment.padding, columns + left - augment.padding
    if flip:
        columns = width - 1 - columns
    if shift:
        rows, columns = rows - shift, columns - shift
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    pixels = data.images[
        indices[:, None, None], rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    pixels = torch.where(inside[..., None], pixels, 0)
    normalised = data.table[pixels.long(), torch.arange(channels, device=data.device)]
    return normalised.permute(0, 3, 1, 2).contiguous()


def gather_batches(
    data: Examples,
    batches: Sequence[Int[Tensor, " _"]],
    *,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> Iterator[Float[Tensor, "_ channels height width"]]:
    """Read batches in order as ``gather`` does, ahead if the images are in a file.

    Args:
        data: The data set.
        batches: Indices of each batch. Sizes may differ and may be 0.
        augment: Random crop and flip; defaults to none.
        seed: Seed of the random draws.
        epoch: Epoch of the random draws.

    Yields:
        Images of each batch, valid until the next is requested.
    """
    if isinstance(data.images, Tensor):
        for batch in batches:
            yield gather(data, batch, augment=augment, seed=seed, epoch=epoch)
    else:
        fused = augment is not None and data.implementation("gather_augmented") == "fused"
        for images in data.images.read(batches, ImageTransform(augment=augment, seed=seed, epoch=epoch)):
            yield _match_layout(images, data, fused)


def _match_layout(
    images: Float[Tensor, "batch channels height width"], data: Examples, fused: bool
) -> Float[Tensor, "batch channels height width"]:
    """Convert to the resident loader's type and memory format, by which torch chooses its convolutions."""
    images = images.to(data.table.dtype)
    return images.contiguous(memory_format=torch.channels_last) if fused else images


def shuffle_set(indices: Int[Tensor, " set"], seed: int, epoch: int) -> Int[Tensor, " set"]:
    """Shuffle a set for one epoch."""
    generator = np.random.Generator(np.random.Philox(derive_seed("order", seed, epoch)))
    return indices[torch.from_numpy(generator.permutation(len(indices))).to(indices.device)]


def iterate_batches(
    indices: Int[Tensor, " set"], batch_size: int, *, seed: int, epoch: int
) -> Iterator[Int[Tensor, " batch"]]:
    """Iterate over a set once in shuffled order. A last batch of one joins the one before: batch norm needs two."""
    order = shuffle_set(indices, seed, epoch)
    starts = list(range(0, len(order), batch_size))
    if len(order) - starts[-1] == 1 and len(starts) > 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    for start, end in zip(starts, ends, strict=True):
        yield order[start:end]


def cycle_batches(
    indices: Int[Tensor, " set"], batch_size: int, *, seed: int
) -> Iterator[tuple[int, Int[Tensor, " batch"]]]:
    """Iterate over shuffled passes without end, in batches of one size with their pass's number."""
    epoch, rest = 0, indices[:0]
    while True:
        while len(rest) < batch_size:
            rest = torch.cat([rest, shuffle_set(indices, seed, epoch)])
            epoch += 1
        yield epoch - 1, rest[:batch_size]
        rest = rest[batch_size:]
