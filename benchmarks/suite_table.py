"""Format the results of a suite of ``ungan-dist bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from load import describe_load
from ratio_text import format_ratio

NOT_MEASURED = "Not measured yet on an idle machine: `ungan-dist bench {name}` measures it.\n"
Row = Mapping[str, Any]


def table(results: Row) -> str:
    """Format where it was measured, then a table of speeds, one of values and one of counts."""
    rows = results["rows"]
    kinds = (("ratio", _format_ratios), ("values", _format_values), ("counts", _format_counts))
    parts = [write([row for row in rows if key in row]) for key, write in kinds if any(key in row for row in rows)]
    return "\n".join([describe_machine(results), "", *parts])


def before_table(results: Row) -> str:
    """Format the profile of an earlier version."""
    return f"The same for commit `{results['profiled']}`, before the benchmarks. {table(results)}"


def describe_machine(results: Row) -> str:
    """State commit, hardware, versions and load."""
    where, hardware = results["measured_on"], results["hardware"]
    commit = where["commit"].removesuffix("-dirty")
    changed = " with changes" if where["commit"].endswith("-dirty") else ""
    other = f" {describe_load(results['load'])}" if results.get("is_timed", True) else ""
    return (
        f"Commit `{commit}`{changed}; {hardware['cores']} cores ({hardware['cpu']}), "
        f"{', '.join(hardware['gpus']) or 'no GPU'}; Python {where['python']}, torch {where['torch']}.{other}"
    )


def _format_ratios(rows: Sequence[Row]) -> str:
    lines = [
        "| | rival | rival, ms | ours, ms | times as fast | error | target |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        cells = [
            row["subject"],
            row["rival"],
            f"{row['rival_ms']:,.3g}",
            f"{row['ours_ms']:,.3g}",
            format_ratio(row),
            f"{row['error']:.1e}" if "error" in row else "",
            _target(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _format_values(rows: Sequence[Row]) -> str:
    """Format one column for each name; rows of other names form another table."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row["values"]), []).append(row)
    lines: list[str] = []
    for names, group in groups.items():
        has_target = any("target" in row for row in group)
        head = [*(name.replace("_", " ") for name in names), *(["target"] if has_target else [])]
        lines += [f"| | {' | '.join(head)} |", f"|---|{'---:|' * len(names)}{'---|' * has_target}"]
        for row in group:
            cells = [_number(row["values"][name]) for name in names] + ([_target(row)] if has_target else [])
            lines.append(f"| {' | '.join([row['subject'], *cells])} |")
        lines.append("")
    return "\n".join(lines)


def _format_counts(rows: Sequence[Row]) -> str:
    return _format_values([{"subject": row["subject"], "values": row["counts"]} for row in rows])


def _target(row: Row) -> str:
    if "target" not in row:
        return ""
    return f"{row['target']}: {'met' if row['met'] else '**missed**'}"


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
