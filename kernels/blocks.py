"""Committed block sizes by shape; there is no autotuner, and ``compile_check`` compiles every line.

The sizes are chosen so that no register spills and shared memory fits. Their speed on a GPU is not measured yet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Precision = Literal["tf32x3", "ieee"]
"""Method of float32 dots: three TF32 products (float32 accuracy on tensor cores), or FMAs. One TF32 product would leave
errors of .2 to 1.7 % in the gradients."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Block sizes and launch options of one kernel."""

    rows: int
    columns: int
    inner: int
    num_warps: int
    num_stages: int = 2
    max_registers: int | None = None
    """Without a limit, ptxas targets 64 or 128 registers in a block of 8 warps and spills; 8 warps × 240 fit."""
    min_resident: int = 1
    """Least number of blocks whose registers fit on one multiprocessor, which ``compile_check`` asserts."""


MAX_CRITIC_WIDTH = 512
MAX_DISTANCE_DIM = 1024
DIRECT_DIM = 32
"""Largest dimension in which distances are computed from differences instead of dots."""

CRITIC_ROWS = Blocks(rows=16, columns=32, inner=32, num_warps=8, num_stages=1, max_registers=240)
"""With 4 warps and two stages, the longest of these kernels spills 64 to 968 bytes on sm_80 and sm_90."""
CRITIC_WEIGHTS_NARROW = Blocks(rows=32, columns=32, inner=32, num_warps=4)
CRITIC_WEIGHTS_WIDE = Blocks(rows=64, columns=32, inner=32, num_warps=8, max_registers=176)
"""With 4 warps 64 × 64 spills 8 bytes on sm_80, and 64 × 32 as much with Triton 3.6; without a limit 8 on sm_100."""
CRITIC_REDUCE = 256
"""Gradient entries per program of the last stage."""
CRITIC_SPLIT_ROWS = 128
"""Stacked rows per partial weight gradient; the order of additions depends on the batch size only."""

DISTANCE_DIRECT = Blocks(rows=32, columns=32, inner=16, num_warps=2, num_stages=1, min_resident=4)
"""Tiles of differences. 64 × 64 with 4 warps spills 8 bytes on sm_80, 8 warps leave room for 2 blocks."""
DISTANCE_DOTS_FORWARD = Blocks(rows=64, columns=32, inner=16, num_warps=4, num_stages=1, min_resident=2)
"""Tiles of dots: fewer thread instructions a pair than 32 × 32 with 8 warps. 64 × 64 has still fewer, but spills 16
bytes on sm_80 if sizes are not multiples of 16."""
DISTANCE_DOTS_BACKWARD = Blocks(rows=32, columns=32, inner=16, num_warps=8, num_stages=1, max_registers=240)
"""With 4 warps it spills 56 bytes on sm_80 in ieee, with 2 warps 264. 64 × 32 with 4 warps spills 8 in tf32x3 and 256
in ieee; 64 × 64 spills 168, 128 × 64 224, and with 64 columns of the gradient 1,376."""
DISTANCE_GROUPS = Blocks(rows=32, columns=32, inner=16, num_warps=4, num_stages=1, min_resident=4)
"""Tiles of one-dimensional differences within groups."""
AUGMENT_PIXELS = 1024
LOG_ODDS_ROWS, LOG_ODDS_CLASSES = 16, 64


def select_weight_blocks(width: int) -> Blocks:
    """Select the blocks of the weight gradients by the critic's widest layer."""
    return CRITIC_WEIGHTS_NARROW if width <= 64 else CRITIC_WEIGHTS_WIDE


def select_distance_blocks(dim: int, *, backward: bool) -> Blocks:
    """Select the blocks of the distances by their dimension."""
    if dim <= DIRECT_DIM:
        return DISTANCE_DIRECT
    return DISTANCE_DOTS_BACKWARD if backward else DISTANCE_DOTS_FORWARD


def select_distance_columns(dim: int) -> int:
    """Return the number of gradient columns per program, which recomputes the distances for them.

    64 columns spill 344 bytes on sm_90 with these blocks.
    """
    return 16 if dim <= 16 else 32


_TABLES = {
    "energy_distance": "DISTANCE_D DIRECT_DIM",
    "energy_distance_1d": "DISTANCE_GROUPS",
    "gather_augmented": "AUGMENT",
    "log_odds": "LOG_ODDS",
}


def table_hash(operation: str) -> str:
    """Hash an operation's part of the table: block sizes set the order of additions, and with it the last bits.

    Examples:
        >>> table_hash("log_odds") == table_hash("gather_augmented")
        False
    """
    prefixes = tuple(_TABLES.get(operation, "CRITIC").split())
    table = {name: value for name, value in globals().items() if name.startswith(prefixes)}
    return hashlib.sha256(repr(sorted(table.items())).encode()).hexdigest()[:12]
