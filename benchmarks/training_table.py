"""Format the tables of training steps: their counts, and the CPU time of shadow models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def count_table(results: Mapping[str, Any]) -> str:
    """Format ``results/step_counts.json``."""
    lines = [
        f"Counted on a pretend GPU (`benchmarks/step_counts.py`), before at commit `{results['earlier'][:12]}`, now at "
        f"`{results['measured_on']['commit'][:12]}`. Views are not counted.",
        "",
        "| step | operations before | operations | waits before | waits |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        numbers = (row[name] for name in ("operations_before", "operations", "waits_before", "waits"))
        lines.append(f"| {row['subject']} | {' | '.join(f'{number:g}' for number in numbers)} |")
    return "\n".join(lines) + "\n"


def time_table(results: Mapping[str, Any]) -> str:
    """Format ``results/training.json``."""
    load = ", ".join(f"{value:.1f}" for value in results["load"])
    turns, cpu = results["rows"][0]["num_pairs"], results["hardware"]["cpu"]
    lines = [
        f"Processes with one thread take turns, {turns} times ({cpu}). "
        f"The machine is shared: its load average before and after is {load}. Medians of paired ratios with 95 % "
        f"intervals, in CPU seconds. Before: commit `{results['earlier'][:12]}`; now: "
        f"`{results['measured_on']['commit'][:12]}`.",
        "",
        "| | images a CPU second | times as fast | test accuracy | log-odds of members | of non-members | models |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        low, high = row["interval"]
        is_rival = row["subject"].endswith(", before")
        cells = [
            row["subject"],
            f"{row['images_per_cpu_s']:,.0f}",
            "" if is_rival else f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]",
            *(f"{row[name]:.3f}" if name in row else "–" for name in ("accuracy", "members", "non_members")),
            str(row["num_models"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
