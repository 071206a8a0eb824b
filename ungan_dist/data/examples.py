"""Examples as the models see them: resident uint8 pixels, Philox augmentation, one normalisation table."""

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
    """How pictures are looked at; the same view of an example has the same bits by every loader."""

    augment: AugmentConfig | None = None
    """Random crop and flip; none leaves pixels where they are."""
    seed: int = 0
    """Of the random draws, which depend on (seed, epoch, example)."""
    epoch: int = 0
    shift: int = 0
    """Pixels to the right and down, as the attack's query views ask; pixels that enter are 0."""
    flip: bool = False
    """Mirror every picture."""


@runtime_checkable
class ImageReader(Protocol):
    """Pictures that are read from a file when they are asked for."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Examples, height, width, channels."""
        ...

    @property
    def device(self) -> torch.device:
        """Where batches arrive."""
        ...

    def gather(self, indices: Tensor, view: ImageTransform) -> Tensor:
        """One batch, float32."""
        ...

    def read(self, batches: Sequence[Tensor], view: ImageTransform) -> Iterator[Tensor]:
        """Batches in order, read ahead; each is valid until the next is asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A data set, resident on one device or in a file; sets are tensors of indices into it."""

    images: UInt8[Tensor, "examples height width channels"] | ImageReader
    labels: Int[Tensor, " examples"]
    table: Float[Tensor, "256 channels"]
    """Normalisation: pixel value and channel → input of the model."""
    num_classes: int
    fused: frozenset[str] = frozenset()
    """Operations of the kernels that run fused on it, as the plan resolved them; every other runs its reference."""

    @property
    def device(self) -> torch.device:
        return self.images.device

    def implementation(self, operation: str) -> Literal["reference", "fused"]:
        """What the plan resolved for an operation."""
        return "fused" if operation in self.fused else "reference"


def make_normalisation_table(
    mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "256 channels"]:
    """``(value / 255 − mean) / std``, rounded once to float32: every loader and kernel reads the same bits."""
    values = np.arange(256, dtype=np.float64)[:, None] / 255
    table = ((values - np.asarray(mean)) / np.asarray(std)).astype(np.float32)
    return torch.from_numpy(table).to(dtype)


def draw_augmentation(
    seed: int, epoch: int, examples: Int[np.ndarray, " batch"], config: AugmentConfig
) -> tuple[Int[np.ndarray, " batch"], Int[np.ndarray, " batch"], Int[np.ndarray, " batch"]]:
    """Rows and columns of the crop's corner in the padded picture, and whether it is mirrored (0 or 1)."""
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
    """Normalised pictures of a batch, randomly augmented or moved the same way for every example.

    Args:
        indices: which examples; their ids are what the random draws depend on.
        augment: random crop and flip; none leaves pixels where they are.
        shift: pixels to the right and down, as the attack's query views ask; pixels that enter are 0.
        flip: mirror every picture.
    """
    fused = augment is not None and not shift and not flip and data.implementation("gather_augmented") == "fused"
    if not isinstance(data.images, Tensor):
        view = ImageTransform(augment=augment, seed=seed, epoch=epoch, shift=shift, flip=flip)
        return _laid_out(data.images.gather(indices, view), data, fused)
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
    """:func:`gather` of one batch after another, read ahead where pictures lie in a file.

    Args:
        batches: of any sizes, also none: a process's shares of a pass, for example.

    Yields:
        Pictures of each batch, valid until the next is asked for.
    """
    if isinstance(data.images, Tensor):
        for batch in batches:
            yield gather(data, batch, augment=augment, seed=seed, epoch=epoch)
    else:
        fused = augment is not None and data.implementation("gather_augmented") == "fused"
        for images in data.images.read(batches, ImageTransform(augment=augment, seed=seed, epoch=epoch)):
            yield _laid_out(images, data, fused)


def _laid_out(
    images: Float[Tensor, "batch channels height width"], data: Examples, fused: bool
) -> Float[Tensor, "batch channels height width"]:
    """Type and memory format that the resident loader's pictures have: by these torch chooses its convolutions."""
    images = images.to(data.table.dtype)
    return images.contiguous(memory_format=torch.channels_last) if fused else images


def shuffle_set(indices: Int[Tensor, " set"], seed: int, epoch: int) -> Int[Tensor, " set"]:
    """The set in the shuffled order of one epoch."""
    generator = np.random.Generator(np.random.Philox(derive_seed("order", seed, epoch)))
    return indices[torch.from_numpy(generator.permutation(len(indices))).to(indices.device)]


def iterate_batches(
    indices: Int[Tensor, " set"], batch_size: int, *, seed: int, epoch: int
) -> Iterator[Int[Tensor, " batch"]]:
    """One shuffled pass over a set; a last batch of one joins the batch before it (batch norm needs two)."""
    order = shuffle_set(indices, seed, epoch)
    starts = list(range(0, len(order), batch_size))
    if len(order) - starts[-1] == 1 and len(starts) > 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    for start, end in zip(starts, ends, strict=True):
        yield order[start:end]


def count_batches(num_examples: int, batch_size: int) -> int:
    """How many batches one pass has."""
    full, rest = divmod(num_examples, batch_size)
    return max(1, full + (rest > 1))


def cycle_batches(
    indices: Int[Tensor, " set"], batch_size: int, *, seed: int
) -> Iterator[tuple[int, Int[Tensor, " batch"]]]:
    """Endless batches of one size in shuffled passes, each with its pass's number; a small set repeats in a batch."""
    epoch, rest = 0, indices[:0]
    while True:
        while len(rest) < batch_size:
            rest = torch.cat([rest, shuffle_set(indices, seed, epoch)])
            epoch += 1
        yield epoch - 1, rest[:batch_size]
        rest = rest[batch_size:]
