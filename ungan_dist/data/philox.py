"""Philox4x32-10, the counter-based generator behind every random draw of augmentation.

Source: Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*. Triton's generator is the same function.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

PURPOSE_AUGMENT = 0
"""Third counter word of the draws behind crop and flip."""


def philox(
    seed: int, examples: Int[np.ndarray, " examples"], epoch: int, purpose: int = PURPOSE_AUGMENT
) -> UInt[np.ndarray, "examples 4"]:
    """Draw four uniform 32-bit words per example: key = seed, counter = (example, epoch, purpose, 0).

    Args:
        seed: 64-bit key.
        examples: example ids in [0, 2³²).
        epoch: second counter word.
        purpose: third counter word; draws of different purposes are independent.

    Raises:
        ValueError: The seed or the epoch is out of range.
    """
    check_draw(seed, epoch)
    counter_0 = examples.astype(np.uint64) & _MASK
    counter_1 = np.full_like(counter_0, epoch)
    counter_2 = np.full_like(counter_0, purpose)
    counter_3 = np.zeros_like(counter_0)
    return philox_words(seed, counter_0, counter_1, counter_2, counter_3)


def check_draw(seed: int, epoch: int) -> None:
    """Check that a seed and an epoch fit into their words; larger ones would repeat draws.

    Raises:
        ValueError: The seed or the epoch is out of range.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2**64), got {seed}")
    if not 0 <= epoch < 2**32:
        raise ValueError(f"epoch must lie in [0, 2**32), got {epoch}")


def philox_words(
    seed: int, c0: np.ndarray, c1: np.ndarray, c2: np.ndarray, c3: np.ndarray
) -> UInt[np.ndarray, "examples 4"]:
    """Run the ten rounds on 32-bit counter words in uint64 arrays."""
    key_0, key_1 = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    for _ in range(10):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> _HALF) ^ c1 ^ key_0,
            product_1 & _MASK,
            (product_0 >> _HALF) ^ c3 ^ key_1,
            product_0 & _MASK,
        )
        key_0, key_1 = (key_0 + _WEYL_0) & _MASK, (key_1 + _WEYL_1) & _MASK
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)
