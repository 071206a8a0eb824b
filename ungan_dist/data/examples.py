"""Read batches of examples: uint8 pixels, random crops and one normalisation table; or standardised features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.crops import normalise, read_pixels
from ungan_dist.data.rows import ImageTransform, Rows, draw_rows, shuffle, split_pass, upload
from ungan_dist.data.seeds import derive_seed
from ungan_dist.data.sources.features import holds_features, standardise
from ungan_dist.data.transforms import find_pixels, transform_pixels
from ungan_dist.kernels import gather_augmented


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

    def gather(self, indices: Int[np.ndarray, " batch"], view: ImageTransform) -> Tensor:
        """Read one batch as float32."""
        ...

    def read(self, batches: Sequence[Int[np.ndarray, " _"]], view: ImageTransform) -> Iterator[Tensor]:
        """Read batches in order and ahead. Each is valid until the next is requested."""
        ...


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A data set in memory or in a file. Sets are tensors of indices into it."""

    images: UInt8[Tensor, "examples height width channels"] | Float[Tensor, "examples ..."] | ImageReader
    """Pixels, or features as the model takes them."""
    labels: Int[Tensor, " examples"]
    table: Float[Tensor, "256 channels"]
    """Normalisation: pixel value and channel → input of the model. Features have a table of no channels."""
    num_classes: int
    fused: frozenset[str] = frozenset()
    """Operations that run as fused kernels; all others run their reference."""
    channels_last: bool = False
    """Layout of batches in memory."""

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def has_features(self) -> bool:
        """Whether the examples are features and no pictures."""
        return holds_features(self.images)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an example as a model takes it: channels, height and width, or the features' own."""
        if self.has_features:
            return tuple(self.images.shape[1:])
        _, height, width, channels = self.images.shape
        return channels, height, width

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


def hold_examples(
    images: UInt8[np.ndarray, "examples height width channels"] | Float[np.ndarray, "examples ..."],
    labels: Int[np.ndarray, " examples"],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    num_classes: int,
    device: torch.device | str,
    fused: Iterable[str] = (),
) -> Examples:
    """Hold a data set in the memory of a device: pixels with their normalisation, or features, standardised once."""
    if is_table := holds_features(images):
        images, mean, std = standardise(images, mean, std), (), ()
    return Examples(
        images=torch.from_numpy(images).to(device),
        labels=torch.from_numpy(labels.astype(np.int64, copy=False)).to(device),
        table=make_normalisation_table(mean, std).to(device),
        num_classes=num_classes,
        fused=frozenset(fused) - ({"gather_augmented"} if is_table else set()),
    )


def gather(
    data: Examples,
    indices: Int[Tensor, " batch"],
    *,
    augment: AugmentConfig | None = None,
    seed: int = 0,
    epoch: int = 0,
    shift: int = 0,
    flip: bool = False,
) -> Float[Tensor, "batch channels ..."]:
    """Read the normalised images of a batch, randomly augmented, or shifted and mirrored alike.

    Waits for the device if there is something to draw. A loop over batches draws all ``Rows`` before, and calls
    ``gather_rows``.

    Args:
        data: The data set.
        indices: Examples to read. The random draws depend on these indices.
        augment: Random crop and flip; defaults to none.
        seed: Seed of the random draws.
        epoch: Epoch of the random draws.
        shift: Shift to the right and down in pixels. New pixels are 0.
        flip: Mirror every image.
    """
    view = ImageTransform(augment=augment, seed=seed, epoch=epoch, shift=shift, flip=flip)
    if isinstance(data.images, Tensor) and not view.is_random and not data.has_features:
        return _normalised(read_pixels(data.images, indices, shift=shift, flip=flip), data)
    return gather_rows(data, draw(data, indices.cpu().numpy(), view))


def draw(data: Examples, host: Int[np.ndarray, " rows"], view: ImageTransform) -> Rows:
    """Draw the rows of one or several batches; a fused kernel and a file reader draw crops themselves.

    Raises:
        ValueError: The examples are features, and the view would change pictures.
    """
    if data.has_features and (view.is_random or view.shift or view.flip):
        raise ValueError("crops, flips and shifts are for pictures, and the examples are features: leave them out")
    if not isinstance(data.images, Tensor) or _is_fused(data, view):
        return Rows(view=view, host=host, indices=upload(host, data.device))
    return draw_rows(host, view, data.device)


def draw_pass(
    data: Examples,
    indices: Int[Tensor, " set"],
    *,
    seed: int,
    epoch: int,
    augment: AugmentConfig | None = None,
    augment_seed: int | None = None,
) -> Rows:
    """Shuffle a set and draw its crops, for one pass over it: see ``split_pass``.

    Args:
        data: The data set.
        indices: The set.
        seed: Seed of the order.
        epoch: Epoch of the order and of the crops.
        augment: Random crop and flip; defaults to none.
        augment_seed: Seed of the crops; defaults to one that is derived from ``seed``.
    """
    augment_seed = derive_seed("augment", seed) if augment_seed is None else augment_seed
    host = indices.cpu().numpy()[shuffle(len(indices), derive_seed("order", seed, epoch))]
    return draw(data, host, ImageTransform(augment=augment, seed=augment_seed, epoch=epoch))


def draw_batches(
    data: Examples,
    indices: Int[Tensor, " set"],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    augment: AugmentConfig | None = None,
) -> list[Rows]:
    """Draw one pass over a set, and divide it into batches; the arguments are those of ``draw_pass``."""
    drawn = draw_pass(data, indices, seed=seed, epoch=epoch, augment=augment)
    return [drawn[batch] for batch in split_pass(len(drawn), batch_size)]


def gather_rows(data: Examples, rows: Rows) -> Float[Tensor, "rows channels ..."]:
    """Read the normalised images of drawn rows; a pure function of tensors on the device of the data."""
    view = rows.view
    if rows.images is not None:
        return rows.images
    if isinstance(data.images, Tensor) and data.has_features:
        return data.images.index_select(0, rows.indices).to(data.table.dtype)
    if not isinstance(data.images, Tensor):
        return _finish_read(data.images.gather(rows.host, view), data, rows)
    if view.augment is not None and _is_fused(data, view):
        return gather_augmented(
            data.images, rows.indices, data.table,
            seed=view.seed, epoch=view.epoch, padding=view.augment.padding, flip=view.augment.flip, impl="fused",
        )  # fmt: skip
    padding = 0 if view.augment is None else view.augment.padding
    pixels = read_pixels(data.images, rows.indices, rows.crops, padding=padding, shift=view.shift, flip=view.flip)
    return _normalised(_transformed(pixels, rows), data)


def _transformed(
    pixels: UInt8[Tensor, "batch height width channels"], rows: Rows
) -> UInt8[Tensor, "batch height width channels"]:
    if rows.view.augment is None:
        return pixels
    return transform_pixels(pixels, rows.host, rows.view.augment, seed=rows.view.seed, epoch=rows.view.epoch)


def _normalised(
    pixels: UInt8[Tensor, "batch height width channels"], data: Examples
) -> Float[Tensor, "batch channels height width"]:
    images = normalise(pixels, data.table)
    return images if data.channels_last else images.contiguous()


def _is_fused(data: Examples, view: ImageTransform) -> bool:
    is_plain = view.augment is None or bool(view.shift) or view.flip or view.is_transformed
    return not is_plain and data.implementation("gather_augmented") == "fused"


def gather_batches(data: Examples, batches: Sequence[Rows]) -> Iterator[Float[Tensor, "_ channels ..."]]:
    """Read batches in order as ``gather_rows`` does, ahead if the images are in a file.

    Args:
        data: The data set.
        batches: Rows of each batch, of one view. Sizes may differ and may be 0.

    Yields:
        Images of each batch, valid until the next is requested.
    """
    if isinstance(data.images, Tensor) or not batches:
        for batch in batches:
            yield gather_rows(data, batch)
        return
    view = batches[0].view
    for images, batch in zip(data.images.read([batch.host for batch in batches], view), batches, strict=True):
        yield _finish_read(images, data, batch)


def _finish_read(
    images: Float[Tensor, "batch channels height width"], data: Examples, rows: Rows
) -> Float[Tensor, "batch channels height width"]:
    if rows.view.is_transformed:
        return _normalised(_transformed(find_pixels(images, data.table), rows), data)
    return _match_layout(images, data, _is_fused(data, rows.view))


def _match_layout(
    images: Float[Tensor, "batch channels height width"], data: Examples, fused: bool
) -> Float[Tensor, "batch channels height width"]:
    """Convert to the resident loader's type and memory format, by which torch chooses its convolutions."""
    images = images.to(data.table.dtype)
    return images.contiguous(memory_format=torch.channels_last) if fused or data.channels_last else images


def shuffle_set(indices: Int[Tensor, " set"], seed: int, epoch: int) -> Int[Tensor, " set"]:
    """Shuffle a set for one epoch."""
    return indices[torch.from_numpy(shuffle(len(indices), derive_seed("order", seed, epoch))).to(indices.device)]


def cycle_passes(
    indices: Int[np.ndarray, " set"], batch_size: int, *, seed: int
) -> Iterator[tuple[int, Int[np.ndarray, " rows"]]]:
    """Iterate over shuffled passes without end, in whole batches of one size.

    Yields:
        The pass's number, and its rows. Those that fill no batch stand at the beginning of the next pass.
    """
    epoch, rest = 0, indices[:0]
    while True:
        while len(rest) < batch_size:
            rest = np.concatenate([rest, indices[shuffle(len(indices), derive_seed("order", seed, epoch))]])
            epoch += 1
        whole = len(rest) // batch_size * batch_size
        yield epoch - 1, rest[:whole]
        rest = rest[whole:]
