"""The README's table of the fused operations, from ``benchmarks/results/kernels.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Any]) -> str:
    """Counts, and times where a GPU has measured them."""
    measured_on, rows = results["measured_on"], results["rows"]
    changed = " with changes" if measured_on["commit"].endswith("+changes") else ""
    lines = [
        f"Commit `{measured_on['commit'][:12]}`{changed}, torch {measured_on['torch']}, "
        f"Triton {measured_on['triton']}. Counted in Triton's interpreter: operations of eager PyTorch that are no "
        "view, and the bytes they write, against the kernels launched in their place (torch's few operations around "
        "them not counted) and the bytes of their buffers.",
        "",
        "| | PyTorch: operations | MB | fused: kernels | MB | time on a GPU |",
        "|---|---:|---:|---:|---:|---|",
    ]
    time = "in the next table" if rows else "not measured yet"
    for row in results["counts"]:
        cells = [
            row["subject"],
            str(row["reference_operations"]),
            f"{row['reference_bytes'] / 1e6:.2f}",
            str(row["fused_kernels"]),
            f"{row['fused_bytes'] / 1e6:.2f}",
            time,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if rows:
        lines += [
            "",
            f"{measured_on['gpu']}, median of paired ratios with 95 % intervals. The floor is what "
            "the dots, or the bytes, take at the rate of torch's largest product, or copy, on this GPU.",
            "",
            "| | rival | rival ms | fused ms | times faster | relative error | of the floor | peak MB |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
            *(timed(row) for row in rows),
        ]
    return "\n".join([*lines, ""])


def timed(row: Mapping[str, Any]) -> str:
    """One measured row, or why there is none."""
    if "left_out" in row:
        return f"| {row['subject']} | {row['left_out']} | | | | | | |"
    low, high = row["interval"]
    return (
        f"| {row['subject']} | {row['rival']} | {row['rival_ms']:.3f} | {row['ours_ms']:.3f} "
        f"| {row['ratio']:.1f} [{low:.1f}, {high:.1f}] | {row['error']:.1e} "
        f"| {row['floor_ms'] / row['ours_ms']:.0%} | {row['peak_bytes'] / 1e6:,.1f} |"
    )
