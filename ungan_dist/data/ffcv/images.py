"""Pictures that stay in a file and are read by FFCV: one compiled Loader a process for all sets, seeds and passes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ungan_dist.data.examples import ImageTransform, make_normalisation_table
from ungan_dist.data.ffcv.availability import import_ffcv
from ungan_dist.data.ffcv.format import Beton
from ungan_dist.data.philox import check_draw

NUM_VIEWS = 1024
"""Passes that may be under way at once."""
BUFFER_BYTES = 1 << 29
"""Memory for batches that are read ahead."""
MAX_BUFFERS = 5
"""Batches in memory at once: FFCV's own default."""


class FfcvImages:
    """The pictures of a sound file; ``shape`` and ``device`` are those of a tensor of them."""

    def __init__(
        self,
        path: Path,
        beton: Beton,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        device: torch.device,
        num_threads: int = 1,
    ) -> None:
        """Compiles the pipeline, which takes seconds.

        Args:
            path: the file whose tables ``beton`` was read from.
            mean: of each channel, as ``std``: the normalisation.
            device: where batches go.
            num_threads: that read and augment.

        Raises:
            ImportError: FFCV is not installed.
        """
        import_ffcv()
        from ungan_dist.data.ffcv.loader import ReusableLoader
        from ungan_dist.data.ffcv.operation import NUM_SETTINGS, FusedArrayDecoder, FusedImageDecoder

        self.shape, self.device, self._path = beton.shape, device, path
        self._settings = np.zeros((NUM_VIEWS, NUM_SETTINGS), np.int64)
        self._failures = np.zeros(1, np.int64)
        self._free_rows = list(range(NUM_VIEWS))
        operation = FusedImageDecoder() if self.shape[-1] == 3 else FusedArrayDecoder()
        operation.configure(
            self._settings,
            self._failures,
            make_normalisation_table(tuple(mean), tuple(std)).numpy().T,
            self.shape[1:],
            mean=mean,
            std=std,
            has_jpeg=bool(beton.is_jpeg.any()),
        )
        self._loader = ReusableLoader(path, operation, num_threads=num_threads)

    def gather(
        self, indices: Int[Tensor, " batch"], view: ImageTransform
    ) -> Float[Tensor, "batch channels height width"]:
        """One batch, in memory of its own."""
        with contextlib.closing(self.read([indices], view)) as batches:
            return next(batches)

    def read(
        self, batches: Sequence[Int[Tensor, " _"]], view: ImageTransform
    ) -> Generator[Float[Tensor, "_ channels height width"]]:
        """Batches of any sizes in order, prepared in the background; each is valid until the next is asked for.

        Raises:
            IndexError: an index outside of the data.
            ValueError: a picture that cannot be decoded; a seed or an epoch out of its range.
        """
        num_examples, height, width, channels = self.shape
        wanted = [batch.cpu().numpy().astype(np.int64) for batch in batches]
        for batch in wanted:
            if len(batch) and not 0 <= batch.min() <= batch.max() < num_examples:
                raise IndexError(f"indices {batch.min()} … {batch.max()} are not within [0, {num_examples})")
        largest = max(map(len, wanted), default=0)
        if not largest:
            empty = _in_resident_order(torch.empty((0, channels, height, width)))
            yield from (empty.to(self.device) for _ in wanted)
            return
        affordable = BUFFER_BYTES // (largest * channels * height * width * 4)
        num_buffers = 1 if len(wanted) == 1 else max(3, min(affordable, MAX_BUFFERS))
        # a pass's settings are found by the high half of its indices, so that passes may run side by side
        row = self._free_rows.pop()
        try:
            self._settings[row] = _settings(view)
            marked = [batch.astype(np.uint64) | np.uint64(row << 32) for batch in wanted if len(batch)]
            with self._loader.reading(marked, num_buffers=num_buffers) as pictures:
                for batch in wanted:
                    if len(batch):
                        images = next(pictures)
                        self._check_decoded()
                    else:
                        images = torch.empty((0, channels, height, width))
                    yield _in_resident_order(images).to(self.device)
        finally:
            self._free_rows.append(row)

    def _check_decoded(self) -> None:
        if failed := int(self._failures[0]):
            self._failures[0] = 0
            raise ValueError(f"example {failed - 1} of {self._path} cannot be decoded: its JPEG is damaged")


def _in_resident_order(
    images: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """The strides that the resident loader's pictures have: by these torch chooses its convolution.

    It lays them out with channels last, and copies only where that order is another one.
    """
    count, channels, height, width = images.shape
    one_order = channels == 1 or height * width == 1
    return images.reshape(count, height, width, channels).permute(0, 3, 1, 2) if one_order else images


def _settings(view: ImageTransform) -> list[int]:
    """In the order of the operation's columns."""
    padding, flip = (view.augment.padding, view.augment.flip) if view.augment else (0, False)
    low = high = epoch = 0
    if padding or flip:
        check_draw(view.seed, view.epoch)
        low, high, epoch = view.seed & 0xFFFFFFFF, view.seed >> 32, view.epoch
    return [low, high, epoch, 2 * padding + 1, int(flip), view.shift, int(view.flip)]
