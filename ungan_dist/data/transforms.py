"""Augmentation by a transform of the user's own, such as torchvision's v2, seeded for each example."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ungan_dist.config.own.training import find_transform
from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.philox import philox
from ungan_dist.data.seeds import derive_seed


def transform_pixels(
    pixels: UInt8[Tensor, "batch height width channels"],
    examples: Int[np.ndarray, " batch"],
    config: AugmentConfig,
    *,
    seed: int,
    epoch: int,
) -> UInt8[Tensor, "batch height width channels"]:
    """Apply ``augment.factory``'s transform to each image; its draws depend on (seed, epoch, example) alone.

    Torch's generators are seeded before each image and restored at the end.

    Raises:
        ValueError: the transform returns something other than uint8 pixels of the same shape.
    """
    if config.factory is None or not len(examples):
        return pixels
    transform = find_transform(config)
    words = philox(derive_seed("transform", seed), examples, epoch).astype(np.uint64)
    seeds = (words[:, 0] << np.uint64(31)) ^ words[:, 1]  # below 2⁶³
    changed: list[Tensor] = []
    with torch.random.fork_rng(devices=[pixels.device] if pixels.device.type == "cuda" else []):
        for image, own in zip(pixels.permute(0, 3, 1, 2), seeds, strict=True):
            torch.manual_seed(int(own))
            changed.append(_check(transform(image.contiguous()), image, config))
    return torch.stack(changed).permute(0, 2, 3, 1).contiguous()


def _check(result: Any, image: Tensor, config: AugmentConfig) -> Tensor:
    if not isinstance(result, Tensor) or result.dtype != torch.uint8 or result.shape != image.shape:
        kind = f"{result.dtype} {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(
            f"the transform of train.augment.factory {config.factory} must map uint8 {tuple(image.shape)} to the same "
            f"type and shape, got {kind}: end a change of size with a crop, and leave the normalisation to the run"
        )
    return result.as_subclass(Tensor)


def find_pixels(
    images: Float[Tensor, "batch channels height width"], table: Float[Tensor, "256 channels"]
) -> UInt8[Tensor, "batch height width channels"]:
    """Return the pixels whose normalised values these are, exactly: a table's values rise."""
    columns = table.to(images.dtype).T.contiguous()
    values = images.transpose(0, 1).flatten(1).contiguous()
    places = torch.searchsorted(columns, values).to(torch.uint8)
    channels, (batch, _, height, width) = len(columns), images.shape
    return places.view(channels, batch, height, width).permute(1, 2, 3, 0)
