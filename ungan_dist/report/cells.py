"""The table's columns and the text of its cells, the same in Markdown, HTML and on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ungan_dist.attack.evidence import Interval, Report, Row
from ungan_dist.report.timings import average_seconds

PAPER_GROUP = "(a) Retain against forget"
PAPER_NOTE = "paper's column, confounded; nothing is concluded from it"
AUDIT_GROUP = "(b) Forget against never seen"
VERDICT_GROUP = "Verdict, from (b) alone"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its group's heading, its own, and how a row fills it."""

    group: str
    heading: str
    cell: Callable[[Row], str]


def format_number(value: float, digits: int) -> str:
    """A number of fixed digits with a typographic minus; what rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def format_signed(value: float, digits: int = 3) -> str:
    """As :func:`number`, with a plus where the value is positive."""
    text = format_number(value, digits)
    return text if value <= 0 or not float(text) else f"+{text}"


def format_interval(interval: Interval, digits: int, scale: float = 1, *, bounds: bool = False) -> tuple[str, str]:
    """Mean and what surrounds it: ``± half`` where both sides print the same, ``[low, high]`` otherwise.

    Args:
        bounds: ``[low, high]`` always.
    """
    mean, low, high = (scale * value for value in (interval.mean, interval.low, interval.high))
    above, below = format_number(high - mean, digits), format_number(mean - low, digits)
    is_even = above == below and not bounds
    return format_number(
        mean, digits
    ), f"± {above}" if is_even else f"[{format_number(low, digits)}, {format_number(high, digits)}]"


def format_percent(value: Interval | str | None, *, bounds: bool = False) -> str:
    """A share as per cent with its interval; the reason where there is none."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else " ".join(format_interval(value, 1, scale=100, bounds=bounds))


def needs_bounds(values: Iterable[Interval | str | None], digits: int, scale: float = 1) -> bool:
    """Whether any interval of a column needs its bounds: all of the column are written with theirs then."""
    return any(
        format_interval(value, digits, scale)[1][0] == "[" for value in values if not isinstance(value, str | None)
    )


def format_rate(as_written: str) -> str:
    """A rate as the config writes it, in per cent: ``"0.001"`` → ``0.1 %``."""
    return f"{float(as_written) * 100:g} %"


def format_gap(interval: Interval | None) -> str:
    """Bounds of the gap to the reference."""
    return "–" if interval is None else f"[{format_signed(interval.low)}, {format_signed(interval.high)}]"


def format_delta(value: float | None) -> str:
    """A margin rounded up, so that the one that is printed would truly have been passed."""
    if value is None:
        return "–"
    rounded = round(value, 3)
    return format_number(rounded if rounded > value else rounded + 0.001, 3)


def format_seconds(value: float | None) -> str:
    """Seconds, three digits or so."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def build_columns(report: Report) -> list[Column]:
    """Every column after the method's name."""

    def shares(group: str, heading: str, field: str, key: str) -> Column:
        bounds = needs_bounds((getattr(row, field).get(key) for row in report.rows), 1, 100)
        return Column(
            group=group, heading=heading, cell=lambda row: format_percent(getattr(row, field).get(key), bounds=bounds)
        )

    auc_bounds = needs_bounds((row.auc for row in report.rows), 3)

    mean_time = average_seconds(report)
    return [
        *(shares("Accuracy, %", name.capitalize(), "accuracy", name) for name in ("retain", "forget", "test")),
        *(
            shares(PAPER_GROUP, f"TNR, % @ {format_rate(fnr)} FNR", "tnr_at_fnr", fnr)
            for fnr in list_computed_rates(report, "tnr_at_fnr")
        ),
        Column(
            group=AUDIT_GROUP, heading="AUC", cell=lambda row: " ".join(format_interval(row.auc, 3, bounds=auc_bounds))
        ),
        *(
            shares(AUDIT_GROUP, f"TPR, % @ {format_rate(fpr)} FPR", "tpr_at_fpr", fpr)
            for fpr in list_computed_rates(report, "tpr_at_fpr")
        ),
        *(
            shares(AUDIT_GROUP, f"Flipped TPR, % @ {format_rate(fpr)} FPR", "tpr_at_fpr_flipped", fpr)
            for fpr in list_computed_rates(report, "tpr_at_fpr_flipped")
        ),
        Column(group=VERDICT_GROUP, heading="Verdict", cell=lambda row: row.verdict.outcome),
        Column(group=VERDICT_GROUP, heading="Gap in AUC, 90 % interval", cell=lambda row: format_gap(row.verdict.gap)),
        Column(
            group=VERDICT_GROUP,
            heading="Smallest δ",
            cell=lambda row: format_delta(row.verdict.smallest_delta),
        ),
        Column(group="Time", heading="T_U, s", cell=lambda row: format_seconds(mean_time.get(row.method))),
    ]


def list_rates(report: Report, field: str) -> list[str]:
    """The error rates that a family of cells was asked at, the largest first."""
    return sorted({key for row in report.rows for key in getattr(row, field)}, key=float, reverse=True)


def list_computed_rates(report: Report, field: str) -> list[str]:
    """Those at which any row has a number: a column of nothing but reasons is a line below the table instead."""
    return [
        key
        for key in list_rates(report, field)
        if any(not isinstance(getattr(row, field).get(key), str | None) for row in report.rows)
    ]


def explain_omitted_columns(report: Report) -> list[str]:
    """One line a reason for the columns that no row has a number in."""
    families = {
        "tnr_at_fnr": ("(a) TNR", "FNR"),
        "tpr_at_fpr": ("(b) TPR", "FPR"),
        "tpr_at_fpr_flipped": ("(b) flipped TPR", "FPR"),
    }
    columns_of: dict[str, list[str]] = {}
    for field, (name, of) in families.items():
        answered = list_computed_rates(report, field)
        for key in (key for key in list_rates(report, field) if key not in answered):
            reason = next(str(getattr(row, field)[key]) for row in report.rows if getattr(row, field).get(key))
            columns_of.setdefault(reason, []).append(f"{name} @ {format_rate(key)} {of}")
    return [f"Left out: {', '.join(names)}: {reason}." for reason, names in columns_of.items()]
