"""The table of benchmarks/network_faults.py's results."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any]) -> str:
    """Write one line per fault."""
    lines = ["| fault | the audit | seconds from the fault to the table | bits equal |", "|---|---|---:|---|"]
    for row in results["rows"]:
        did = "ended with 3, and the same command continued" if row["continued"] else "went on to its end"
        lines.append(f"| {row['fault']} | {did} | {row['seconds']:.0f} | {'yes' if row['equal_bits'] else 'no'} |")
    return "\n".join(lines) + "\n"
