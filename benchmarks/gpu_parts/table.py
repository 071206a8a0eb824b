"""Format the rows of ``benchmarks/gpu.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ratio_text import format_ratio

from gpu_parts import PARTS

COLUMNS = ("", "rival", "rival ms", "ms", "times as fast", "error", "of the floor", "more")
CAPTION = (
    "Times are medians of two arms that take turns; ratios have 95 % intervals, or with fewer than eight pairs their "
    "range. Errors of weights are relative to how far training moves them, errors of operations to the largest entry "
    "or in norm."
)
HIDDEN = (
    *("part", "subject", "rehearsal", "rival", "rival_ms", "ours_ms", "ratio", "interval", "num_pairs", "ratios"),
    *("error", "floor_ms", "arm", "operation", "shapes"),
)
"""Values with a column of their own, or with none."""


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows as one Markdown table for each part.

    Args:
        rows: The rows of ``rows.jsonl``.
    """
    lines = [CAPTION, ""]
    if any(row.get("rehearsal") for row in rows):
        lines += ["**A rehearsal on tiny shapes: nothing here is a measurement.**", ""]
    for part in PARTS:
        found = [row for row in rows if row["part"] == part]
        if found:
            lines += [f"**{part}**", "", f"| {' | '.join(COLUMNS)} |", "|---|---|---:|---:|---:|---:|---:|---|"]
            lines += [f"| {' | '.join(_cells(row))} |" for row in found] + [""]
    return "\n".join(lines)


def published_table(results: Mapping[str, Any]) -> str:
    """Format ``results/gpu.json``."""
    return format_table(results["rows"]) if results["rows"] else "Not measured yet: no GPU has run the script.\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Format one row; a value that it does not have leaves its cell empty."""
    return [
        row["subject"],
        row.get("rival", ""),
        _number(row.get("rival_ms"), ".3f"),
        _number(row.get("ours_ms"), ".3f"),
        format_ratio(row) if "ratio" in row else "",
        _number(row.get("error"), ".1e"),
        f"{row['floor_ms'] / row['ours_ms']:.0%}" if "floor_ms" in row else "",
        "; ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in row.items() if name not in HIDDEN),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return str(value).replace("|", "/")
