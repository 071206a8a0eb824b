"""Format the table of the fused operations, from ``results/kernels.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Any]) -> str:
    """Format the counts, and the times if a GPU has measured them."""
    measured_on, rows = results["measured_on"], results["rows"]
    changed = " with changes" if measured_on["commit"].endswith("+changes") else ""
    lines = [
        f"Commit `{measured_on['commit'][:12]}`{changed}, torch {measured_on['torch']}, "
        f"Triton {measured_on['triton']}. Counted in Triton's interpreter. PyTorch: operations in eager mode that are "
        "not views, and the bytes that they write. Fused: the kernels launched instead, and the bytes of their "
        "buffers; the few torch operations around them are not counted.",
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
            f"{measured_on['gpu']}, median of paired ratios with 95 % intervals. The floor is the time of the dots, or "
            "of the bytes, at the rate of torch's largest product, or copy, on this GPU.",
            "",
            "| | rival | rival ms | fused ms | times faster | relative error | of the floor | peak MB |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
            *(format_row(row) for row in rows),
        ]
    return "\n".join([*lines, ""])


def format_row(row: Mapping[str, Any]) -> str:
    """Format one measured row, or the reason for its absence."""
    if "left_out" in row:
        return f"| {row['subject']} | {row['left_out']} | | | | | | |"
    low, high = row["interval"]
    return (
        f"| {row['subject']} | {row['rival']} | {row['rival_ms']:.3f} | {row['ours_ms']:.3f} "
        f"| {row['ratio']:.1f} [{low:.1f}, {high:.1f}] | {row['error']:.1e} "
        f"| {row['floor_ms'] / row['ours_ms']:.0%} | {row['peak_bytes'] / 1e6:,.1f} |"
    )
