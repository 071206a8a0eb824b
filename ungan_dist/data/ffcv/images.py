"""Images in a file, read by FFCV. One compiled Loader per process serves all sets, seeds and passes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ungan_dist.data.examples import make_normalisation_table
from ungan_dist.data.ffcv.availability import import_ffcv
from ungan_dist.data.ffcv.format import Beton
from ungan_dist.data.philox import check_draw
from ungan_dist.data.rows import ImageTransform, upload_ahead

NUM_VIEWS = 1024
"""Largest number of passes at the same time."""
BUFFER_BYTES = 1 << 29
"""Memory limit of the batches that are read ahead."""
MAX_BUFFERS = 5
"""Largest number of batches in memory; FFCV's default."""


class FfcvImages:
    """The images of an intact file. ``shape`` and ``device`` are those of the same images as a tensor."""

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
        """Compile the pipeline, which takes seconds.

        Args:
            path: the file to read.
            beton: the file's tables.
            mean: mean of each channel, for the normalisation.
            std: standard deviation of each channel, for the normalisation.
            device: device of the batches.
            num_threads: threads that read and augment.

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
        self, indices: Int[np.ndarray, " batch"], view: ImageTransform
    ) -> Float[Tensor, "batch channels height width"]:
        """Read one batch into new memory."""
        with contextlib.closing(self.read([indices], view)) as batches:
            return next(batches)

    def read(
        self, batches: Sequence[Int[np.ndarray, " _"]], view: ImageTransform
    ) -> Generator[Float[Tensor, "_ channels height width"]]:
        """Read batches of any sizes in order, in the background. Each is valid until the next is requested.

        For a GPU, each batch is copied to page-locked memory, and from there while the batch before is used.

        Raises:
            IndexError: an index is outside the data.
            ValueError: an image cannot be decoded, or a seed or an epoch is out of range.
        """
        with contextlib.closing(self._read_on_host(batches, view)) as read:
            yield from upload_ahead(read, self.device)

    def _read_on_host(
        self, batches: Sequence[Int[np.ndarray, " _"]], view: ImageTransform
    ) -> Generator[Float[Tensor, "_ channels height width"]]:
        num_examples, height, width, channels = self.shape
        wanted = [batch.astype(np.int64) for batch in batches]
        for batch in wanted:
            if len(batch) and not 0 <= batch.min() <= batch.max() < num_examples:
                raise IndexError(f"indices {batch.min()} … {batch.max()} are not within [0, {num_examples})")
        largest = max(map(len, wanted), default=0)
        if not largest:
            empty = _in_resident_order(torch.empty((0, channels, height, width)))
            yield from (empty for _ in wanted)
            return
        affordable = BUFFER_BYTES // (largest * channels * height * width * 4)
        num_buffers = 1 if len(wanted) == 1 else max(3, min(affordable, MAX_BUFFERS))
        # the high half of an index selects its pass's settings, so that several passes can run at the same time
        row = self._free_rows.pop()
        try:
            self._settings[row] = _encode_view(view)
            marked = [batch.astype(np.uint64) | np.uint64(row << 32) for batch in wanted if len(batch)]
            with self._loader.read_batches(marked, num_buffers=num_buffers) as results:
                for batch in wanted:
                    if len(batch):
                        images = next(results)
                        self._check_decoded()
                    else:
                        images = torch.empty((0, channels, height, width))
                    yield _in_resident_order(images)
        finally:
            self._free_rows.append(row)

    def _check_decoded(self) -> None:
        if failed := int(self._failures[0]):
            self._failures[0] = 0
            raise ValueError(f"example {failed - 1} of {self._path} cannot be decoded: its JPEG is damaged")


def _in_resident_order(
    images: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """Give images the strides of the resident loader's images, by which torch chooses its convolution.

    The resident loader permutes channels-last images and copies them only if the order in memory changes.
    """
    count, channels, height, width = images.shape
    one_order = channels == 1 or height * width == 1
    return images.reshape(count, height, width, channels).permute(0, 3, 1, 2) if one_order else images


def _encode_view(view: ImageTransform) -> list[int]:
    """Encode a view as a row of settings, in the order of the operation's columns."""
    padding, flip = (view.augment.padding, view.augment.flip) if view.augment else (0, False)
    low = high = epoch = 0
    if padding or flip:
        check_draw(view.seed, view.epoch)
        low, high, epoch = view.seed & 0xFFFFFFFF, view.seed >> 32, view.epoch
    return [low, high, epoch, 2 * padding + 1, int(flip), view.shift, int(view.flip)]
