"""Count launches, operations and bytes of the fused operations: ``python benchmarks/kernels.py``, without a GPU.

``benchmarks/gpu.py`` times them on a GPU, and ``benchmarks/publish.py`` publishes the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from harness import write


def counts() -> list[dict[str, object]]:
    """Count in another process, because the interpreter must be enabled before Triton is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "kernel_counts.py")],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(f"written to {write('kernels', [], counts=counts())}")
