"""The table of benchmarks/network_faults.py's results."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """Write how it was measured, and one line per fault."""
    rows, cores = results["rows"], results["hardware"]["cores"]
    loads = [load for row in rows for load in row["load"]]
    beside = ", so other work was going on beside" if max(loads) > 2 * cores else ""
    lines = [
        f"{cores} cores, load average {min(loads):.0f} to {max(loads):.0f}{beside}. The undisturbed audit took "
        f"{results['undisturbed_s']:.0f} s; commit `{results['measured_on']['commit'][:12]}`.",
        "",
        "| fault | the audit | seconds from the fault to the table | bits equal |",
        "|---|---|---:|---|",
    ]
    return "\n".join([*lines, *map(_write_line, rows)]) + "\n"


def _write_line(row: dict[str, Any]) -> str:
    """Write a line of the table."""
    if "skipped" in row:
        return f"| {row['fault']} | not run: {row['skipped']} | | |"
    if "failed" in row:
        return f"| {row['fault']} | ended with another exit code than 0 and 3 | | |"
    did = "ended with 3, and the same command continued" if row["continued"] else "went on to its end"
    return f"| {row['fault']} | {did} | {row['seconds']:.0f} | {'yes' if row['equal_bits'] else 'no'} |"
