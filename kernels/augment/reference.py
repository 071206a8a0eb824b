"""Definition of the augmented batch: Philox draws, zero padding, random crop, flip, normalisation by a table."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

_MASK = 0xFFFFFFFF


def philox(seed: int, examples: Int[Tensor, " batch"], epoch: int) -> Int[Tensor, "batch words"]:
    """Philox4x32-10 with key = seed and counter = (example, epoch, 0, 0); four words per example.

    Source: Salmon et al. 2011.
    """
    zeros = torch.zeros_like(examples)
    c0, c1, c2, c3 = examples & _MASK, zeros + epoch, zeros, zeros
    key_0, key_1 = seed & _MASK, seed >> 32 & _MASK
    for _ in range(10):
        (high_0, low_0), (high_1, low_1) = _product(0xD2511F53, c0), _product(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high_1 ^ c1 ^ key_0, low_1, high_0 ^ c3 ^ key_1, low_0
        key_0, key_1 = key_0 + 0x9E3779B9 & _MASK, key_1 + 0xBB67AE85 & _MASK
    return torch.stack([c0, c1, c2, c3], dim=-1)


def _product(factor: int, words: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Return the high and low 32 bits of a product, computed in halves because int64 is signed."""
    low, high = factor * (words & 0xFFFF), factor * (words >> 16)
    middle = (low >> 16) + (high & _MASK)
    return (high >> 32 << 16) + (middle >> 16), (middle & 0xFFFF) << 16 | low & 0xFFFF


def gather_augmented(
    images: UInt8[Tensor, "examples height width channels"],
    indices: Int[Tensor, " batch"],
    table: Float[Tensor, "256 channels"],
    *,
    seed: int,
    epoch: int,
    padding: int,
    flip: bool,
    dtype: torch.dtype,
) -> Float[Tensor, "batch channels height width"]:
    _, height, width, channels = images.shape
    words = philox(seed, indices.long(), epoch)
    top, left = (words[:, word, None] * (2 * padding + 1) >> 32 for word in (0, 1))
    mirrored = (words[:, 2, None] >> 31) * flip
    rows = torch.arange(height, device=images.device) + top - padding
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirrored == 1, width - 1 - columns, columns) + left - padding
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    pixels = images[
        indices[:, None, None], rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
    ]
    pixels = torch.where(inside[..., None], pixels, 0)
    return table[pixels.long(), torch.arange(channels, device=images.device)].to(dtype).permute(0, 3, 1, 2)
