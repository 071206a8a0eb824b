"""Derive seeds from their purpose."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator

import numpy as np


def derive_seed(*words: int | str) -> int:
    """Derive a 63-bit seed from words, equal on every machine.

    Examples:
        >>> derive_seed("order", 0, 1) == derive_seed("order", 0, 1)
        True
    """
    numbers = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in words]
    low, high = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return (int(high) << 32 | int(low)) & (2**63 - 1)


@contextlib.contextmanager
def seed_layers(*words: int | str) -> Iterator[None]:
    """Seed the draws of a model's layers, such as dropout, with these words; restore the global state at the end."""
    import torch  # here, so that the attack needs none

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed("layers", *words))
        yield
