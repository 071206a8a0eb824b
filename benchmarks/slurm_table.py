"""The table of benchmarks/slurm_runs.py's results."""

from __future__ import annotations

from typing import Any

from fault_table import list_commits


def table(results: dict[str, Any]) -> str:
    """Write one line per job, as Slurm has recorded it."""
    lines = ["| the job | state | exit code | nodes | seconds | bits equal |", "|---|---|---:|---|---:|---|"]
    for row in results["rows"]:
        for job in row["jobs"]:
            is_last = job is row["jobs"][-1]
            title = row["situation"] if job is row["jobs"][0] else "then"
            equal = "yes" if row["equal_bits"] else "no"
            lines.append(
                f"| {title} | {job['state']} | {job['exit_code']} | {job['nodes']} | {job['elapsed_s']} "
                f"| {equal if is_last else ''} |"
            )
    by = f"Slurm's own records, by {results['slurm']}; {list_commits(results['rows'])}."
    return "\n".join([by, "", *lines, ""])
