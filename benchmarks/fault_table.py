"""The table of benchmarks/network_faults.py's results."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """Write how it was measured, and one line per fault."""
    rows, cores = results["rows"], results["hardware"]["cores"]
    loads = [load for row in rows for load in row["load"]]
    beside = ", so other work was going on beside" if max(loads) > 2 * cores else ""
    undisturbed = sorted({row["undisturbed_s"] for row in rows})
    took = " to ".join(f"{seconds:.0f}" for seconds in dict.fromkeys((undisturbed[0], undisturbed[-1])))
    settings = results["ray_settings"]
    lines = [
        f"{cores} cores, load average {min(loads):.0f} to {max(loads):.0f}{beside}. The undisturbed audit took "
        f"{took} s; {list_commits(rows)}. Ray takes a host for lost after "
        f"{settings['RAY_health_check_failure_threshold']} checks of "
        f"{int(settings['RAY_health_check_timeout_ms']) / 1000:g} s, a fifth of its own limits.",
        "",
        "| fault | the audit | seconds from the fault to the table | late results | bits equal |",
        "|---|---|---:|---:|---|",
    ]
    return "\n".join([*lines, *map(_write_line, rows)]) + "\n"


def _write_line(row: dict[str, Any]) -> str:
    """Write a line of the table."""
    if "skipped" in row:
        return f"| {row['fault']} | not run: {row['skipped']} | | | |"
    if "failed" in row:
        return f"| {row['fault']} | ended with another exit code than 0 and 3 | | | |"
    did = "ended with 3, and the same command continued" if row["continued"] else "went on to its end"
    if not row["continued"] and not row.get("saw_the_end", True):
        did += ", before the fault was over"
    equal = "yes" if row["equal_bits"] and not row.get("wrong") else "; ".join(["no", *row.get("wrong", [])])
    late = row.get("late")
    return f"| {row['fault']} | {did} | {row['seconds']:.0f} | {'not counted' if late is None else late} | {equal} |"


def list_commits(rows: list[dict[str, Any]]) -> str:
    """List the commits by which rows were measured."""
    commits = list(dict.fromkeys(f"`{row['commit'][:12]}`" for row in rows))
    return f"{'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}"
