"""Committed block sizes by shape: no autotuner runs in production, and ``compile_check`` compiles every line here.

Chosen so that nothing spills and shared memory fits; which of them is fastest on a GPU is not measured yet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Precision = Literal["tf32x3", "ieee", "tf32"]
"""How float32 dots are done: three TF32 products (float32's accuracy on tensor cores), FMAs, or one TF32 product."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """One line of a table."""

    rows: int
    columns: int
    inner: int
    num_warps: int
    num_stages: int = 2
    max_registers: int | None = None
    """Without it ptxas aims at 64 or 128 registers in a block of 8 warps, and spills; 8 warps × 240 fit."""


MAX_CRITIC_WIDTH = 512
MAX_DISTANCE_DIM = 1024
DIRECT_DIM = 32
"""Up to this dimension distances come from differences, not from dots."""

CRITIC_ROWS = Blocks(rows=16, columns=32, inner=32, num_warps=8, num_stages=1, max_registers=240)
"""At 4 warps and two stages the longest of these kernels spills 64 to 968 bytes on sm_80 and sm_90, so nothing."""
CRITIC_WEIGHTS_NARROW = Blocks(rows=32, columns=32, inner=32, num_warps=4)
CRITIC_WEIGHTS_WIDE = Blocks(rows=64, columns=32, inner=32, num_warps=4)
"""64 × 64 spills 8 bytes on sm_80 where sizes are multiples of 16."""
CRITIC_REDUCE = 256
"""Gradient entries a program of the last stage adds up."""
CRITIC_SPLIT_ROWS = 128
"""Stacked rows behind one partial weight gradient; the order of additions depends on the batch alone."""

DISTANCE = Blocks(rows=32, columns=32, inner=16, num_warps=8, num_stages=1, max_registers=240)
"""64 × 64 spills 124 bytes in the backward on sm_80, 32 × 64 with inner 32 spills 544."""
AUGMENT_PIXELS = 1024
LOG_ODDS_ROWS, LOG_ODDS_CLASSES = 16, 64


def critic_weights(width: int) -> Blocks:
    """For the weight gradients, by the critic's widest layer."""
    return CRITIC_WEIGHTS_NARROW if width <= 64 else CRITIC_WEIGHTS_WIDE


def distance_features(dim: int) -> int:
    """Columns of the gradient that one program makes, for which it computes the distances once more.

    64 spill 344 bytes on sm_90 at these blocks, and fit only where half of the warps have no dot to do.
    """
    return 16 if dim <= 16 else 32


def table_hash() -> str:
    """Names the table: block sizes set the order of additions, and with it the last bits."""
    table = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, (int, Blocks))}
    return hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest()[:12]
