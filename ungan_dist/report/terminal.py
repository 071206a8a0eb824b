"""The table on a terminal: complete from 110 columns on, else without the least important columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

from ungan_dist.attack.evidence import Interval, Report, Row, ULiRA
from ungan_dist.attack.summary import format_outcome
from ungan_dist.attack.verdicts import has_power
from ungan_dist.config.attack import ATTACK_NAMES, LARGEST_DELTA
from ungan_dist.report.cells import (
    explain_omitted_columns,
    find_first_attack,
    forgets_classes,
    format_delta,
    format_gap,
    format_gap_level,
    format_interval,
    format_number,
    format_rate,
    format_seconds,
    is_quick,
    list_computed_rates,
    measures_from_half,
    style_of_row,
)
from ungan_dist.report.conclusions import has_reference, list_caveats, write_failure
from ungan_dist.report.earlier import describe_earlier
from ungan_dist.report.looks import describe_looks
from ungan_dist.report.power import describe_power
from ungan_dist.report.stages import describe_stages
from ungan_dist.report.timings import average_seconds

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 110
"""Width of the complete table."""
DROPPED_FIRST = ("TPR", "TNR", "T_U", "Retain")
"""Columns to drop on a narrow terminal, in this order, by words in their headings."""
_ACCURACIES = ("retain", "forget", "test")
_SHORT_NAMES = {"retain": "Retain", "forget": "Forget", "non_members": "Never\nseen", "test_others": "Test,\nothers"}
"""Headings where whole classes are forgotten."""
METHOD_WIDTH = 18
"""Width to which the names of methods are folded before a column is dropped."""
STYLES = {
    "equivalent": "green",
    "under-forgotten": "red",
    "over-forgotten": "magenta",
    "inconclusive": "yellow",
    "utility-lost": "bold yellow",
    "hidden-leak": "bold red",
    "no-power": "dim",
    "reference": "dim",
    "failed": "red",
    "diverged": "red",
}


def build_terminal_table(report: Report, width: int = WIDTH) -> Table:
    """Build the table, with each cell's interval below its mean. Flipped TPR and smaller rates are in the report only.

    Args:
        report: the report to show.
        width: columns of the terminal; no line is longer.
    """
    for count in range(len(DROPPED_FIRST)):
        drawn = _draw(report, width, DROPPED_FIRST[:count])
        if _fits(drawn, width):
            return drawn
    return _draw(report, width, DROPPED_FIRST)


def _fits(drawn: Table, width: int) -> bool:
    from rich.console import Console
    from rich.measure import measure_renderables

    console = Console(width=10 * WIDTH)
    widths = [
        measure_renderables(console, console.options, [*column.cells, column.header]).maximum
        for column in drawn.columns
    ]
    widths[0] = min(widths[0], METHOD_WIDTH)
    # a space after each column, and one at either edge
    return sum(widths) + len(widths) + 2 <= width


def _draw(report: Report, width: int, without: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    fnr, fpr = (list_computed_rates(report, field)[:1] for field in ("tnr_at_fnr", "tpr_at_fpr"))
    missing = f"; missing: {', '.join(report.missing)}" if report.missing else ""
    drawn = Table(
        title=Text(report.title if report.status == "COMPLETE" else f"{report.title}: {report.status}{missing}"),
        caption=Text(
            "(a) compares retain with forget, as in the paper, and can mislead. "
            "(b) compares forget with non-members; verdicts use (b) only. "
            f"Below a value: its 95 % interval. In brackets: the {format_gap_level(report)} interval of the gap by "
            f"{ATTACK_NAMES[find_first_attack(report)]}. "
            + ("" if is_quick(report) else "δ ≥: the smallest margin that every attack would pass. ")
            + "T_U: seconds of unlearning."
            + _explain_origin(report)
            + "".join(f" {line}" for line in ([] if fnr and fpr else explain_omitted_columns(report)))
            + (" The report has more columns." if without else "")
            + "".join(f"\n{line}" for line in _explain_rows(report))
        ),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        width=width,
        title_justify="left",
        caption_justify="left",
    )
    drawn.add_column("Method", overflow="fold")
    accuracies = _SHORT_NAMES if forgets_classes(report) else {name: name.capitalize() for name in _ACCURACIES}
    headings = [
        *(f"{heading} %" for heading in accuracies.values()),
        *(f"(a) TNR\n@ {format_rate(key)}" for key in fnr),
        "(b) AUC",
    ]
    with_ulira = any(row.ulira for row in report.rows)
    headings += ["U-LiRA\nAUC"] if with_ulira else []
    headings += [*(f"(b) TPR\n@ {format_rate(key)}" for key in fpr), "Verdict, gap in AUC", "T_U s"]
    shown = [not any(word in heading for word in without) for heading in headings]
    for heading in compress(headings, shown):
        drawn.add_column(heading, justify="left" if heading.startswith("Verdict") else "right")
    times = average_seconds(report)
    for row in report.rows:
        words = format_outcome(row).replace(": ", ":\n").replace(", ", ",\n").replace(" (", "\n(")
        outcome = Text(words, STYLES[style_of_row(row)])
        if row.verdict.gap is not None:
            outcome.append(f"\n{format_gap(row.verdict.gap)}", "not bold default")
            if row.verdict.smallest_delta is not None:
                outcome.append(f"\n{_describe_delta(row.verdict.smallest_delta)}", "not bold default")
            if row.verdict.attack != row.first_attack and has_power(row.verdict.outcome):
                outcome.append(f"\nby {ATTACK_NAMES[row.verdict.attack]}", "not bold default")
        cells = [
            *(_two_lines(row.accuracy.get(name)) for name in accuracies),
            *(_two_lines(row.tnr_at_fnr.get(key)) for key in fnr),
            _two_lines(row.auc, digits=3, scale=1),
            *([_two_lines(_ulira_auc(row), digits=3, scale=1)] if with_ulira else []),
            *(_two_lines(row.tpr_at_fpr.get(key)) for key in fpr),
            outcome,
            format_seconds(times.get(row.method)),
        ]
        drawn.add_row(Text(row.title), *compress(cells, shown))
    for row in report.failed_rows:
        outcome = Text(row.outcome, STYLES[row.outcome])
        cells = [outcome if heading.startswith("Verdict") else "–" for heading in headings]
        drawn.add_row(Text(row.title), *compress(cells, shown))
    return drawn


def _explain_rows(report: Report) -> list[str]:
    return [
        *filter(None, [describe_power(report)]),
        *describe_looks(report),
        *(f"Caveat: {line}" for line in list_caveats(report)),
        *describe_earlier(report),
        *describe_stages(report),
        *(f"{row.title}: {write_failure(row)}" for row in report.failed_rows),
    ]


def _explain_origin(report: Report) -> str:
    """Say from where gaps are measured, unless it is Retrain."""
    if not has_reference(report):
        return " Retrain is not in this report: gaps are measured from .5."
    return " Gaps are measured from .5, which Retrain has by construction." if measures_from_half(report) else ""


def _describe_delta(smallest: float) -> str:
    return f"no δ below {LARGEST_DELTA:g}" if smallest >= LARGEST_DELTA else f"δ ≥ {format_delta(smallest)}"


def _ulira_auc(row: Row) -> Interval | str | None:
    return row.ulira.auc if isinstance(row.ulira, ULiRA) else row.ulira


def _two_lines(value: Interval | str | None, digits: int = 1, scale: float = 100) -> str:
    if value is None or isinstance(value, str):
        return "–" if value is None else value.split(" ")[0]
    mean, around = format_interval(value, digits, scale)
    if not around.startswith("±"):
        around = "…".join(format_number(scale * bound, digits) for bound in (value.low, value.high))
    return f"{mean}\n{around}"
