"""Random crops and flips: drawn on the host, applied to uint8 pixels on any device, then normalised by a table."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.philox import philox


def draw_augmentation(
    seed: int, epoch: int, examples: Int[np.ndarray, " batch"], config: AugmentConfig
) -> tuple[Int[np.ndarray, " batch"], Int[np.ndarray, " batch"], Int[np.ndarray, " batch"]]:
    """Draw row and column of each crop's corner in the padded image, and whether it is mirrored (0 or 1)."""
    words = philox(seed, examples, epoch).astype(np.uint64)
    positions = np.uint64(2 * config.padding + 1)
    top, left = ((words[:, word] * positions) >> np.uint64(32) for word in (0, 1))
    mirrored = (words[:, 2] >> np.uint64(31)) * np.uint64(config.flip)
    return top.astype(np.int64), left.astype(np.int64), mirrored.astype(np.int64)


def read_pixels(
    images: UInt8[Tensor, "examples height width channels"],
    indices: Int[Tensor, " batch"],
    crops: Int[Tensor, "3 batch"] | None = None,
    *,
    padding: int = 0,
    shift: int = 0,
    flip: bool = False,
) -> UInt8[Tensor, "batch height width channels"]:
    """Read a batch of images, cropped and mirrored each in its own way, then shifted and mirrored alike.

    Args:
        images: The images.
        indices: Images to read.
        crops: Rows of ``draw_augmentation``; defaults to no crop and no flip.
        padding: Zero pixels on each side that the crops were drawn for.
        shift: Shift to the right and down in pixels. New pixels are 0.
        flip: Mirror every image.
    """
    _, height, width, _ = images.shape
    padding = 0 if crops is None else padding
    pixels = images.index_select(0, indices)
    if padding or shift:
        down, right = min(shift, height + padding), min(shift, width + padding)
        sides = (padding + right, padding - right, padding + down, padding - down)
        pixels = functional.pad(pixels, (0, 0, *sides))
    if crops is None:
        return pixels.flip(2) if flip else pixels
    top, left, mirrored = crops
    if padding:
        windows = pixels.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        pixels = windows[torch.arange(len(indices), device=images.device), top, 2 * padding - left if flip else left]
    return torch.where((mirrored != int(flip))[:, None, None, None], pixels.flip(2), pixels)


def normalise(
    pixels: UInt8[Tensor, "batch height width channels"], table: Float[Tensor, "256 channels"]
) -> Float[Tensor, "batch channels height width"]:
    """Look up each pixel's value in the table of its channel. The result is channels_last in memory."""
    channels = pixels.shape[-1]
    places = pixels.int()  # half the memory of int64
    if channels > 1:
        places = places * channels + torch.arange(channels, dtype=torch.int32, device=pixels.device)
    values = table.reshape(-1).index_select(0, places.reshape(-1))
    return values.view(pixels.shape).permute(0, 3, 1, 2)
