"""Format the table of loaders, from ``results/loaders.json`` and ``results/loader_limits.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ratio_text import format_ratio

LIMITS = Path(__file__).parent / "results" / "loader_limits.json"


def table(results: dict[str, Any]) -> str:
    """Format the images per second of every loader, and the speed-up of ours in FFCV over it."""
    limits = json.loads(LIMITS.read_text())
    lines: list[str] = []
    for subject in dict.fromkeys(row["subject"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["subject"] == subject]
        first = rows[0]
        load = ", ".join(f"{value:.1f}" for value in first["load_average"])
        lines += [
            f"**{subject}**, {first['num_examples']:,} images, {first['threads']} threads, batches of "
            f"{first['batch']}, {results['hardware']['cores']} cores; load average before and after "
            f"{load}; commit `{results['measured_on']['commit'][:12]}`.",
            "",
            "| | images/s | ours in FFCV is faster by | CPU s / 10,000 | first batch of a pass, ms "
            "| first batch ever, s |",
            "|---|---:|---:|---:|---:|---:|",
            _cells("ours in FFCV", first["ours_images_per_s"], "", first["ours_costs"]),
        ]
        for row in rows:
            ratio = format_ratio(row, digits=1 if row["ratio"] >= 1 else 2)
            lines.append(_cells(row["rival"], row["rival_images_per_s"], ratio, row["rival_costs"]))
        lines += ["", _limits(limits, subject), ""]
    return "\n".join(lines)


def _limits(results: dict[str, Any], subject: str) -> str:
    """Describe the speed of our loader's parts."""
    rows = {row["rival"]: row for row in results["rows"] if row["subject"] == subject}
    speeds = [row["ours_images_per_s"] for row in rows.values()]
    sentences = [
        f"Limits, without a loader (`benchmarks/loader_limits.py`, commit `{results['measured_on']['commit'][:12]}`): "
        f"our compiled pixel code makes {min(speeds):,.0f} to {max(speeds):,.0f} images/s, into as many buffers as the "
        "loader has.",
        f"Into a few places only, it is {_times(rows['our pixels alone, into few places'])} as fast.",
        f"Writing zeros instead is {_times(rows['writing zeros'])} as fast.",
    ]
    if "decoding alone" in rows:
        decoding = rows["decoding alone"]
        sentences.append(
            f"Decoding these files and doing nothing else is {_times(decoding)} as fast, at "
            f"{decoding['rival_images_per_s']:,.0f} images/s."
        )
    return " ".join(sentences)


def _times(row: dict[str, Any]) -> str:
    """Format the speed of a part relative to our pixel code, with its interval."""
    low, high = row["interval"]
    return f"{1 / row['ratio']:.2f} times [{1 / high:.2f}, {1 / low:.2f}]"


def _cells(name: str, speed: float, ratio: str, costs: dict[str, float]) -> str:
    return (
        f"| {name} | {speed:,.0f} | {ratio} | {costs['cpu_s_per_10k']:.2f} | {costs['first_batch_ms']:.1f} | "
        f"{costs['first_batch_ever_s']:.1f} |"
    )
