"""Format a ratio with its interval, or with its range where it has too few pairs for an interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LEAST_FOR_INTERVAL = 8
"""Fewest pairs that give an interval: a bootstrap interval of 95 % covers the median of 3 pairs in 75 % of cases."""


def has_interval(row: Mapping[str, Any]) -> bool:
    """Return whether a row has enough pairs for an interval."""
    return row["num_pairs"] >= LEAST_FOR_INTERVAL


def limits_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return the interval of a row, or the range of its pairs."""
    low, high = row["interval"] if has_interval(row) else (min(row["ratios"]), max(row["ratios"]))
    return low, high


def format_ratio(row: Mapping[str, Any], digits: int = 2) -> str:
    """Format a ratio as ``2.00 [1.90, 2.10]``, or as ``2.00 (1.90 to 2.10 in 3 pairs)``."""
    low, high = (f"{limit:.{digits}f}" for limit in limits_of(row))
    pairs = "1 pair" if row["num_pairs"] == 1 else f"{row['num_pairs']} pairs"
    spread = f"[{low}, {high}]" if has_interval(row) else f"({low} to {high} in {pairs})"
    return f"{row['ratio']:.{digits}f} {spread}"
