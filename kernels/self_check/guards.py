"""Buffers between margins, by which a kernel that writes outside its buffers is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

CANARY = 64
"""Elements on each side of a buffer that nobody may write."""
POISON = -1234.5
"""Content of a buffer before a kernel writes it, and of its margins; no result equals it."""


class WroteOutside(AssertionError):
    """A kernel wrote outside a buffer."""


@contextmanager
def guarded_buffers() -> Iterator[list[Tensor]]:
    """Make ``new_empty`` return poisoned buffers between margins, and check the margins on exit.

    Yields:
        The list of all buffers made so far, including margins.

    Raises:
        WroteOutside: A margin has changed.
    """
    made: list[Tensor] = []
    plain: Any = torch.Tensor.new_empty

    def guarded(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        size = torch.Size(shape).numel()
        made.append(torch.full((size + 2 * CANARY,), POISON, dtype=dtype, device=device))
        return made[-1][CANARY : CANARY + size].view(tuple(shape))

    def new_empty(like: Tensor, *shape: Any, dtype: torch.dtype | None = None, **rest: Any) -> Tensor:
        if rest:  # Triton's interpreter makes its own copies
            return plain(like, *shape, dtype=dtype, **rest)
        flat = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return guarded(flat, dtype or like.dtype, like.device)

    setattr(torch.Tensor, "new_empty", new_empty)  # noqa: B010 - its overloads have other types
    try:
        yield made
    finally:
        setattr(torch.Tensor, "new_empty", plain)  # noqa: B010
    for buffer in made:
        margins = torch.cat([buffer[:CANARY], buffer[-CANARY:]])
        if not bool((margins == torch.tensor(POISON, dtype=buffer.dtype, device=buffer.device)).all()):
            raise WroteOutside(f"a kernel wrote outside a buffer of {len(buffer) - 2 * CANARY} elements")
