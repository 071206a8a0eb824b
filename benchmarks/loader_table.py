"""The README's table of loaders, from ``results/loaders.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LIMITS = Path(__file__).parent / "results" / "loader_limits.json"


def table(results: dict[str, Any]) -> str:
    """Images a second of every loader, and what ours in FFCV is worth against it."""
    limits = json.loads(LIMITS.read_text())
    lines: list[str] = []
    for subject in dict.fromkeys(row["subject"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["subject"] == subject]
        first = rows[0]
        load = ", ".join(f"{value:.1f}" for value in first["load_average"])
        lines += [
            f"**{subject}**, {first['num_examples']:,} pictures, {first['threads']} threads, batches of "
            f"{first['batch']}, {results['hardware']['cores']} cores; load average before and after "
            f"{load}; commit `{results['measured_on']['commit'][:12]}`.",
            "",
            "| | images/s | ours in FFCV is faster by | CPU s / 10,000 | first batch of a pass, ms | of all, s |",
            "|---|---:|---:|---:|---:|---:|",
            _cells("ours in FFCV", first["ours_images_per_s"], "", first["ours_costs"]),
        ]
        for row in rows:
            low, high = row["interval"]
            digits = 1 if row["ratio"] >= 1 else 2
            ratio = f"{row['ratio']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
            lines.append(_cells(row["rival"], row["rival_images_per_s"], ratio, row["rival_costs"]))
        lines += ["", _limits(limits, subject), ""]
    return "\n".join(lines)


def _limits(results: dict[str, Any], subject: str) -> str:
    """One sentence on what a loader of ours is made of."""
    rows = {row["rival"]: row for row in results["rows"] if row["subject"] == subject}
    ours = [row["ours_images_per_s"] for row in rows.values()]
    decoding = rows.get("decoding alone")
    parts = [
        f"our compiled pixels make {min(ours):,.0f} to {max(ours):,.0f} images/s into as many buffers as it has (the "
        f"medians beside each of what follows)",
        f"{_times(rows['our pixels alone, into few places'])} as many into a few places only",
        f"writing zeros in their place makes {_times(rows['writing zeros'])} as many",
    ]
    if decoding:
        speed = decoding["rival_images_per_s"]
        parts.append(f"decoding these files without doing anything else {_times(decoding)} as many, {speed:,.0f}")
    commit = results["measured_on"]["commit"][:12]
    return f"Without a loader, {'; '.join(parts)} (`benchmarks/loader_limits.py`, commit `{commit}`)."


def _times(row: dict[str, Any]) -> str:
    """How many times as fast as our pixels something else is, with its interval."""
    low, high = row["interval"]
    return f"{1 / row['ratio']:.2f} times [{1 / high:.2f}, {1 / low:.2f}]"


def _cells(name: str, speed: float, ratio: str, costs: dict[str, float]) -> str:
    return (
        f"| {name} | {speed:,.0f} | {ratio} | {costs['cpu_s_per_10k']:.2f} | {costs['first_batch_ms']:.1f} | "
        f"{costs['first_batch_ever_s']:.1f} |"
    )
