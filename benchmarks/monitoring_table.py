"""The table of benchmarks/monitoring.py's results."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """Write what had data, and one line per alert."""
    panels = results["panels"]
    empty = [panel["title"] for panel in panels if not all(panel["num_series"])]
    without = f"; without data: {', '.join(empty)}" if empty else ""
    first, again = results["exit_codes"]
    lines = [
        f"Prometheus {results['prometheus']}, {results['hardware']['cores']} cores, load average "
        f"{min(results['load']):.0f} to {max(results['load']):.0f}, commit `{results['measured_on']['commit'][:12]}`. "
        f"{len(panels) - len(empty)} of {len(panels)} panels had data {results['seconds_to_data']:.0f} s after the "
        f"first result{without}. Alerts before the first fault: {len(results['false_alerts'])}. The audit ended with "
        f"{first}, because units were given up, and the same command then with {again}.",
        "",
        "| fault | alert | seconds until it fires | seconds from the repair to its end |",
        "|---|---|---:|---:|",
    ]
    return "\n".join([*lines, *map(_write_line, results["rows"])]) + "\n"


def _write_line(row: dict[str, Any]) -> str:
    end = "not waited for" if row["seconds_to_end"] is None else f"{row['seconds_to_end']:.0f}"
    return f"| {row['fault']} | `{row['name']}` | {row['seconds_to_fire']:.0f} | {end} |"
