"""Shares of low membership p values: of the forget examples, beside those of the non-members of the same model."""

from __future__ import annotations

from typing import NamedTuple

from ungan_dist.attack.evidence import Report, Row


class LowPValues(NamedTuple):
    """Shares of one row at one level, mean over the seeds."""

    level: str
    forget: str
    non_members: str
    """A dash where it was not measured."""


def list_low_p_values(row: Row) -> list[LowPValues]:
    """List the shares of a row, one per level."""
    return [
        LowPValues(level, _write_share(found), _write_share(row.low_p_values_of_non_members.get(level, [])))
        for level, found in row.low_p_values.items()
        if found
    ]


def build_low_p_table(report: Report) -> list[tuple[str, list[LowPValues]]]:
    """Build the table of the shares: title and shares of each row that has some."""
    return [(row.title, found) for row in report.rows if (found := list_low_p_values(row))]


def describe_low_p_values(row: Row) -> list[str]:
    """State the shares of a row in a sentence, if it has some."""
    shares = [f"{one.forget} at p ≤ {one.level} (non-members: {one.non_members})" for one in list_low_p_values(row)]
    return [f"Forget examples that look like members one by one: {', '.join(shares)}."] if shares else []


def _write_share(found: list[float]) -> str:
    return f"{100 * sum(found) / len(found):.1f} %" if found else "–"
