"""A report in one line, and as a table for notebooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Interval, Report, Row

_HEADINGS = ("Method", "Retain %", "Forget %", "Test %", "Attack AUC", "Gap to the reference", "Verdict")


def summarise(report: Report) -> str:
    """Return the run, its state, its verdicts and its folder in one line."""
    counts = Counter([*(row.verdict.outcome for row in report.rows), *(row.outcome for row in report.failed_rows)])
    verdicts = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common() if outcome != "reference")
    where = f"; {report.folder}" if report.folder is not None else ""
    rows = f"{len(report.rows) + len(report.failed_rows)} rows" + (f" ({verdicts})" if verdicts else "")
    return f"<Report of {report.title}, run {report.run_hash[:8]}: {report.status}, {rows}{where}>"


def to_html(report: Report) -> str:
    """Return the rows as an HTML table."""
    lines = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in report.rows)
    for row in report.failed_rows:
        reason = f"<td colspan='{len(_HEADINGS) - 2}'>{escape(row.reason)}</td>"
        lines += f"<tr><th>{escape(row.title)}</th>{reason}<td>{escape(row.outcome)}</td></tr>"
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    return (
        f"<p>{escape(summarise(report)[1:-1])}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        f"<p>Intervals are of 95 %, those of gaps of 90 %.</p>"
    )


def _cells(row: Row) -> Iterator[str]:
    yield f"<th>{escape(row.title)}</th>"
    for name in ("retain", "forget", "test"):
        yield f"<td>{_write(row.accuracy.get(name), scale=100, digits=1)}</td>"
    yield f"<td>{_write(row.auc)}</td>"
    yield f"<td>{_write(row.verdict.gap, sign='+')}</td>"
    yield f"<td>{escape(row.verdict.outcome)}</td>"


def _write(interval: Interval | None, *, scale: float = 1, digits: int = 3, sign: str = "") -> str:
    if interval is None:
        return "–"
    mean, low, high = (f"{scale * value:{sign}.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
