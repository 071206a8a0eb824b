"""Augmented batches from pixels in device memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ungan_dist.kernels.augment import reference
from ungan_dist.kernels.impl import Impl, resolve


def gather_augmented(
    images: UInt8[Tensor, "examples height width channels"],
    indices: Int[Tensor, " batch"],
    table: Float[Tensor, "256 channels"],
    *,
    seed: int,
    epoch: int,
    padding: int = 0,
    flip: bool = False,
    dtype: torch.dtype = torch.float32,
    impl: Impl = "auto",
) -> Float[Tensor, "batch channels height width"]:
    """Crop at random after zero padding, mirror at random and normalise a batch of images, in channels_last.

    Every implementation gives the same bits. Draws are Philox4x32-10 with key = seed and counter = (example, epoch, 0,
    0), and values are read from ``table``.

    Args:
        table: float32, pixel value and channel → input of the model.
        seed: in [0, 2⁶³), because the operation's schema has int64.
        dtype: float32, float16 or bfloat16, rounded from the table.

    Raises:
        ValueError: an empty batch, or wrong shapes or types.
        IndexError: an index out of range, in the reference only; ``fused`` returns an image of NaN.

    Examples:
        >>> images = torch.full((5, 8, 8, 3), 255, dtype=torch.uint8)
        >>> table = torch.linspace(0, 1, 256)[:, None].expand(256, 3).contiguous()
        >>> gather_augmented(images, torch.tensor([0, 4]), table, seed=0, epoch=0, padding=2, flip=True).shape
        torch.Size([2, 3, 8, 8])
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 [N, H, W, C], got {images.dtype} {list(images.shape)}")
    if list(table.shape) != [256, images.shape[-1]] or table.dtype != torch.float32:
        raise ValueError(f"table must be float32 [256, {images.shape[-1]}], got {table.dtype} {list(table.shape)}")
    if indices.ndim != 1 or len(indices) == 0:
        raise ValueError(f"indices must be [batch] with at least one, got {list(indices.shape)}")
    if not 0 <= seed < 2**63 or not 0 <= epoch < 2**32 or padding < 0:
        raise ValueError(
            f"seed, epoch and padding must lie in [0, 2**63), [0, 2**32), [0, …), got {(seed, epoch, padding)}"
        )
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype must be float32, float16 or bfloat16, got {dtype}")
    if resolve("gather_augmented", impl, images.device).name == "fused":
        from ungan_dist.kernels.augment import fused

        return fused.gather_augmented(images, indices, table, seed, epoch, padding, flip, dtype)
    return reference.gather_augmented(
        images, indices, table, seed=seed, epoch=epoch, padding=padding, flip=flip, dtype=dtype
    )
