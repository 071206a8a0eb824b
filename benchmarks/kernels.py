"""Count launches, operations and bytes of the fused operations, without a GPU. ``benchmarks/gpu.py`` times them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import count_row


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Count in another process, because the interpreter must be enabled before Triton is imported."""
    del quick  # the counts are those of real shapes
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "kernel_counts.py")],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for row in json.loads(done.stdout):
        yield count_row(row.pop("subject"), **row)
