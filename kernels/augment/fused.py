"""The fused augmented batch: each program redraws an example's words and writes a span of its output."""

# Annotations are not lazy here: torch reads an operation's schema from them, also through a type checker's wrapper.

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from ungan_dist.kernels.blocks import AUGMENT_PIXELS


@triton.jit
@no_type_check
def augment_kernel(
    images, indices, table, out, num_examples, height, width, channels, seed, epoch, positions, flip,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Write one span of one image; ``positions`` = 2 · padding + 1 offsets of the crop per axis."""
    row = tl.program_id(0).to(tl.int64)
    example = tl.load(indices + row).to(tl.int64)
    known = (example >= 0) & (example < num_examples)
    zero = example.to(tl.uint32) * 0
    word0, word1, word2, _ = tl.philox(seed, example.to(tl.uint32), zero + epoch.to(tl.uint32), zero, zero)
    padding = (positions - 1) // 2
    top = tl.umulhi(word0, zero + positions.to(tl.uint32)).to(tl.int32) - padding
    left = tl.umulhi(word1, zero + positions.to(tl.uint32)).to(tl.int32) - padding
    mirrored = ((word2 >> 31).to(tl.int32) * flip) != 0

    size = height * width * channels
    entries = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    channel = entries % channels
    column = (entries // channels) % width
    y = entries // (channels * width) + top
    x = tl.where(mirrored, width - 1 - column, column) + left
    inside = (entries < size) & (y >= 0) & (y < height) & (x >= 0) & (x < width) & known
    pixel = tl.load(images + example * size + (y * width + x) * channels + channel, mask=inside, other=0)
    value = tl.load(table + pixel.to(tl.int32) * channels + channel, mask=entries < size, other=0.0)
    value = tl.where(known, value, float("nan"))
    tl.store(out + row * size + entries, value.to(out.dtype.element_ty), mask=entries < size)


@torch.library.custom_op("ungan_dist::gather_augmented", mutates_args=())
def gather_augmented(
    images: Tensor, indices: Tensor, table: Tensor, seed: int, epoch: int, padding: int, flip: bool, dtype: torch.dtype
) -> Tensor:
    """Return images [batch, channels, height, width] in channels_last memory; an index out of range gives NaN."""
    images, indices, table = images.contiguous(), indices.contiguous(), table.contiguous()
    num_examples, height, width, channels = images.shape
    out = table.new_empty((len(indices), height, width, channels), dtype=dtype)
    augment_kernel[len(indices), triton.cdiv(height * width * channels, AUGMENT_PIXELS)](
        images, indices, table, out, num_examples, height, width, channels, seed, epoch, 2 * padding + 1, int(flip),
        BLOCK=AUGMENT_PIXELS,
    )  # fmt: skip
    return out.permute(0, 3, 1, 2)


@gather_augmented.register_fake
def _(
    images: Tensor, indices: Tensor, table: Tensor, seed: int, epoch: int, padding: int, flip: bool, dtype: torch.dtype
) -> Tensor:
    return table.new_empty((len(indices), *images.shape[1:]), dtype=dtype).permute(0, 3, 1, 2)
