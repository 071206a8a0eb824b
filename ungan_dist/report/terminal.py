"""The table on a terminal of some 110 columns."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ungan_dist.evidence import Interval, Report
from ungan_dist.report.cells import delta, gap, number, rate, rates, seconds, spread
from ungan_dist.report.timings import mean_seconds

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 110
STYLES = {
    "equivalent": "green",
    "under-forgotten": "red",
    "over-forgotten": "magenta",
    "inconclusive": "yellow",
    "reference": "dim",
}


def table(report: Report) -> Table:
    """Each cell's interval below its mean; the flipped TPR and the smaller rates are in the report only."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    fnr, fpr = (rates(report, field)[:1] for field in ("tnr_at_fnr", "tpr_at_fpr"))
    missing = f"; missing: {', '.join(report.missing)}" if report.missing else ""
    drawn = Table(
        title=Text(report.title if report.status == "COMPLETE" else f"{report.title}: {report.status}{missing}"),
        caption=Text(
            "(a) retain against forget, the paper's column: confounded, nothing is concluded from it. "
            "(b) forget against never seen."
        ),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        width=WIDTH,
        title_justify="left",
        caption_justify="left",
    )
    drawn.add_column("Method", overflow="fold")
    headings = ["Retain %", "Forget %", "Test %", *(f"(a) TNR\n@ {rate(key)}" for key in fnr), "(b) AUC"]
    headings += [*(f"(b) TPR\n@ {rate(key)}" for key in fpr), "Verdict, gap in AUC", "T_U s"]
    for heading in headings:
        drawn.add_column(heading, justify="left" if heading.startswith("Verdict") else "right")
    times = mean_seconds(report)
    for row in report.rows:
        outcome = Text(row.verdict.outcome, STYLES.get(row.verdict.outcome, ""))
        if row.verdict.gap is not None:
            outcome.append(f"\n{gap(row.verdict.gap)}\nδ ≥ {delta(row.verdict.smallest_delta)}", "not bold default")
        drawn.add_row(
            Text(row.title),
            *(_two_lines(row.accuracy.get(name)) for name in ("retain", "forget", "test")),
            *(_two_lines(row.tnr_at_fnr.get(key)) for key in fnr),
            _two_lines(row.auc, digits=3, scale=1),
            *(_two_lines(row.tpr_at_fpr.get(key)) for key in fpr),
            outcome,
            seconds(times.get(row.method)),
        )
    return drawn


def render_table(report: Report) -> str:
    """The same as plain text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table(report))
    return capture.get()


def _two_lines(value: Interval | str | None, digits: int = 1, scale: float = 100) -> str:
    if value is None or isinstance(value, str):
        return "–" if value is None else value.split(" ")[0]
    mean, around = spread(value, digits, scale)
    if not around.startswith("±"):
        around = "…".join(number(scale * bound, digits) for bound in (value.low, value.high))
    return f"{mean}\n{around}"
