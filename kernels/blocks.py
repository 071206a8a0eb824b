"""Committed block sizes by shape: no autotuner runs in production, and ``compile_check`` compiles every line here.

Chosen so that nothing spills and shared memory fits; which of them is fastest on a GPU is not measured yet.
"""

from __future__ import annotations

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


MAX_CRITIC_WIDTH = 512
MAX_DISTANCE_DIM = 1024
DIRECT_DIM = 32
"""Up to this dimension distances come from differences, not from dots."""

CRITIC_ROWS_NARROW = Blocks(rows=16, columns=32, inner=32, num_warps=8, num_stages=1)
CRITIC_ROWS_WIDE = Blocks(rows=16, columns=64, inner=32, num_warps=8, num_stages=1)
CRITIC_TERMS = Blocks(rows=16, columns=32, inner=32, num_warps=8, num_stages=1)
"""The longest kernel: at 4 warps it spills 64 to 968 bytes on sm_80 and sm_90, at 8 with one stage nothing."""
CRITIC_WEIGHTS_NARROW = Blocks(rows=32, columns=32, inner=32, num_warps=4)
CRITIC_WEIGHTS_WIDE = Blocks(rows=64, columns=64, inner=32, num_warps=4)
CRITIC_REDUCE = 256
"""Gradient entries a program of the last stage adds up."""
CRITIC_SPLIT_ROWS = 128
"""Stacked rows behind one partial weight gradient; the order of additions depends on the batch alone."""

DISTANCE_DIRECT = Blocks(rows=32, columns=64, inner=32, num_warps=8)
DISTANCE_DOT = Blocks(rows=64, columns=64, inner=32, num_warps=8, num_stages=1)
DISTANCE_SMALL = Blocks(rows=32, columns=32, inner=32, num_warps=8, num_stages=1)

AUGMENT_PIXELS = 1024
LOG_ODDS_ROWS, LOG_ODDS_CLASSES = 16, 64


def critic_rows(width: int) -> Blocks:
    """For the row-wise stages, by the critic's widest layer."""
    return CRITIC_ROWS_NARROW if width <= 64 else CRITIC_ROWS_WIDE


def critic_weights(width: int) -> Blocks:
    """For the weight gradients, by the critic's widest layer."""
    return CRITIC_WEIGHTS_NARROW if width <= 64 else CRITIC_WEIGHTS_WIDE


def distance(num_rows: int, dim: int) -> Blocks:
    """For all pairs; the backward shares the forward's."""
    if num_rows <= 64:
        return DISTANCE_SMALL
    return DISTANCE_DIRECT if dim <= DIRECT_DIM else DISTANCE_DOT
