"""Format the table of the fused operations, from ``results/kernels.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Any]) -> str:
    """Format the counts."""
    measured_on = results["measured_on"]
    changed = " with changes" if measured_on["commit"].endswith("-dirty") else ""
    lines = [
        f"Commit `{measured_on['commit'][:12]}`{changed}, torch {measured_on['torch']}, "
        f"Triton {measured_on['triton']}. Counted in Triton's interpreter. PyTorch: operations in eager mode that are "
        "not views, and the bytes that they write. Fused: the kernels launched instead, and the bytes of their "
        "buffers; the few torch operations around them are not counted. Times on a GPU: see "
        "[Performance](performance.md#on-a-gpu).",
        "",
        "| | PyTorch: operations | MB | fused: kernels | MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        counts = row["counts"]
        cells = [
            row["subject"],
            str(counts["reference_operations"]),
            f"{counts['reference_bytes'] / 1e6:.2f}",
            str(counts["fused_kernels"]),
            f"{counts['fused_bytes'] / 1e6:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
