"""Columns and cells of the table, shared by Markdown, HTML and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from ungan_dist.attack.evidence import Interval, Report, Row, ULiRA
from ungan_dist.attack.summary import format_gap_level as format_gap_level
from ungan_dist.attack.summary import format_outcome
from ungan_dist.attack.summary import get_gap_level as get_gap_level
from ungan_dist.attack.summary import style_of as style_of
from ungan_dist.attack.summary import style_of_row as style_of_row
from ungan_dist.attack.utility import has_classes
from ungan_dist.attack.verdicts import has_power
from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.report.timings import average_seconds

PAPER_GROUP = "(a) Retain against forget"
PAPER_NOTE = "paper's column, confounded; nothing is concluded from it"
AUDIT_GROUP = "(b) Forget against never seen"
ULIRA_GROUP = "U-LiRA, shadow models unlearn too"
VERDICT_GROUP = "Verdict, from (b) alone"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its group, its heading, and a function that writes a row's cell."""

    group: str
    heading: str
    cell: Callable[[Row], str]


def name_column(column: Column) -> str:
    """Name a column by its heading alone, where its group has no heading of its own."""
    if column.group.startswith("Acc"):
        return f"{column.heading} acc., %"
    is_attack = column.group.startswith(("(", ULIRA_GROUP))
    return f"{column.group.split()[0].strip(',')} {column.heading}" if is_attack else column.heading


def format_number(value: float, digits: int) -> str:
    """Format a number with fixed digits and a typographic minus. A value that rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def format_signed(value: float, digits: int = 3) -> str:
    """Format a number like ``format_number``, with a plus sign if it is positive."""
    text = format_number(value, digits)
    return text if value <= 0 or not float(text) else f"+{text}"


def format_interval(interval: Interval, digits: int, scale: float = 1, *, bounds: bool = False) -> tuple[str, str]:
    """Format mean and interval: ``± half`` if both sides print the same, else ``[low, high]``.

    Args:
        interval: the interval to format.
        digits: number of decimals.
        scale: factor of all values.
        bounds: always write ``[low, high]``.
    """
    mean, low, high = (scale * value for value in (interval.mean, interval.low, interval.high))
    above, below = format_number(high - mean, digits), format_number(mean - low, digits)
    is_even = above == below and not bounds
    return format_number(
        mean, digits
    ), f"± {above}" if is_even else f"[{format_number(low, digits)}, {format_number(high, digits)}]"


def format_percent(value: Interval | str | None, *, bounds: bool = False) -> str:
    """Format a share and its interval in per cent, or return the reason for its absence."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else " ".join(format_interval(value, 1, scale=100, bounds=bounds))


def needs_bounds(values: Iterable[Interval | str | None], digits: int, scale: float = 1) -> bool:
    """Return whether any interval of a column needs bounds. The whole column is then written with bounds."""
    return any(
        format_interval(value, digits, scale)[1][0] == "[" for value in values if not isinstance(value, str | None)
    )


def format_rate(as_written: str) -> str:
    """Format a rate of the config in per cent: ``"0.001"`` → ``0.1 %``."""
    return f"{float(as_written) * 100:g} %"


def name_sizes(report: Report) -> dict[str, int]:
    """Return the sizes of the sets under the names of the glossary; ``table.json`` keeps its first names."""
    names = {
        "shadow_pool": "non-members",
        "shadows": "shadow models",
        "unseen": "D_u",
        "test_others": "other classes, test",
    }
    return {names.get(name, name.replace("_", " ")): size for name, size in report.sizes.items()}


def format_gap(interval: Interval | None) -> str:
    """Format the bounds of a gap to the reference."""
    return "–" if interval is None else f"[{format_signed(interval.low)}, {format_signed(interval.high)}]"


def _format_gap_of(row: Row) -> str:
    gap = row.verdict.gap
    return "–" if gap is None else f"{format_signed(gap.mean)} {format_gap(gap)}"


def format_delta(value: float | None) -> str:
    """Format a margin, rounded up, so that the printed margin would have been passed."""
    if value is None:
        return "–"
    rounded = round(value, 3)
    return format_number(rounded if rounded > value else rounded + 0.001, 3)


def format_seconds(value: float | None) -> str:
    """Format seconds with about three digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def name_gap_column(report: Report) -> str:
    """Return the heading of the column of gaps."""
    return f"Gap in AUC, {format_gap_level(report)} interval"


def forgets_classes(report: Report) -> bool:
    """Return whether whole classes are forgotten."""
    return any(has_classes(row.accuracy) for row in report.rows)


def measures_from_half(report: Report) -> bool:
    """Return whether gaps are measured from .5 although Retrain is there, as where classes are drawn at random."""
    identity = report.config.get("identity")
    split = identity.get("split", {}) if isinstance(identity, Mapping) else {}
    return forgets_classes(report) and "forget" in split


def name_accuracies(report: Report) -> dict[str, str]:
    """Return the sets whose accuracies have a column, with their headings."""
    if not forgets_classes(report):
        return {"retain": "Retain", "forget": "Forget", "test": "Test"}
    return {
        "retain": "Retain",
        "forget": "Forget",
        "non_members": "Forgotten classes, never seen",
        "test_others": "Other classes, test",
    }


def build_columns(report: Report) -> list[Column]:
    """Build every column after the method's name."""

    def shares(group: str, heading: str, field: str, key: str) -> Column:
        bounds = needs_bounds((getattr(row, field).get(key) for row in report.rows), 1, 100)
        return Column(
            group=group, heading=heading, cell=lambda row: format_percent(getattr(row, field).get(key), bounds=bounds)
        )

    auc_bounds = needs_bounds((row.auc for row in report.rows), 3)

    mean_time = average_seconds(report)
    return [
        *(shares("Accuracy, %", heading, "accuracy", name) for name, heading in name_accuracies(report).items()),
        *(
            shares(PAPER_GROUP, f"TNR, % @ {format_rate(fnr)} FNR", "tnr_at_fnr", fnr)
            for fnr in list_computed_rates(report, "tnr_at_fnr")
        ),
        Column(
            group=AUDIT_GROUP, heading="AUC", cell=lambda row: " ".join(format_interval(row.auc, 3, bounds=auc_bounds))
        ),
        *(
            Column(group=AUDIT_GROUP, heading=f"AUC, {ATTACK_NAMES[name]}", cell=partial(_format_auc_of, name))
            for name in list_further_attacks(report)
        ),
        *(
            shares(AUDIT_GROUP, f"TPR, % @ {format_rate(fpr)} FPR", "tpr_at_fpr", fpr)
            for fpr in list_computed_rates(report, "tpr_at_fpr")
        ),
        *(
            shares(AUDIT_GROUP, f"Flipped TPR, % @ {format_rate(fpr)} FPR", "tpr_at_fpr_flipped", fpr)
            for fpr in list_computed_rates(report, "tpr_at_fpr_flipped")
        ),
        *_build_ulira_columns(report),
        Column(group=VERDICT_GROUP, heading="Verdict", cell=format_outcome),
        Column(group=VERDICT_GROUP, heading=name_gap_column(report), cell=_format_gap_of),
        Column(
            group=VERDICT_GROUP,
            heading="Smallest δ",
            cell=lambda row: format_delta(row.verdict.smallest_delta),
        ),
        *(
            [Column(group=VERDICT_GROUP, heading="Decided by", cell=format_deciding_attack)]
            if list_further_attacks(report)
            else []
        ),
        Column(group="Time", heading="T_U, s", cell=lambda row: format_seconds(mean_time.get(row.method))),
    ]


def format_ulira(row: Row, *, bounds: bool = False) -> str:
    """Format U-LiRA's AUC with its interval, the reason for its absence, or a dash."""
    if not isinstance(row.ulira, ULiRA):
        return row.ulira or "–"
    return " ".join(format_interval(row.ulira.auc, 3, bounds=bounds))


def _build_ulira_columns(report: Report) -> list[Column]:
    """Build the columns of U-LiRA, if it was run on a method."""
    measured = {row.method: row.ulira for row in report.rows if isinstance(row.ulira, ULiRA)}
    if not any(row.ulira for row in report.rows):
        return []
    aucs = needs_bounds((ulira.auc for ulira in measured.values()), 3)

    def share(fpr: str) -> Column:
        values = {method: ulira.tpr_at_fpr.get(fpr) for method, ulira in measured.items()}
        bounds = needs_bounds(values.values(), 1, 100)
        return Column(
            group=ULIRA_GROUP,
            heading=f"TPR, % @ {format_rate(fpr)} FPR",
            cell=lambda row: format_percent(values.get(row.method), bounds=bounds),
        )

    fprs = {fpr for ulira in measured.values() for fpr, value in ulira.tpr_at_fpr.items() if not isinstance(value, str)}
    return [
        Column(group=ULIRA_GROUP, heading="AUC", cell=lambda row: format_ulira(row, bounds=aucs)),
        *map(share, sorted(fprs, key=float, reverse=True)),
    ]


def find_first_attack(report: Report) -> str:
    """Return the attack whose AUC and gap every row shows: LiRA, or in a quick audit loss."""
    return next((row.first_attack for row in report.rows), "lira")


def is_quick(report: Report) -> bool:
    """Return whether the audit had no shadow models."""
    return find_first_attack(report) != "lira"


def list_further_attacks(report: Report) -> list[str]:
    """List the attacks beside the first, by their names in ``row.attacks``."""
    first = find_first_attack(report)
    return [name for name in ATTACK_NAMES if name != first and any(name in row.attacks for row in report.rows)]


def _format_auc_of(attack: str, row: Row) -> str:
    return " ".join(format_interval(row.attacks[attack].auc, 3, bounds=True)) if attack in row.attacks else "–"


def format_deciding_attack(row: Row) -> str:
    """Name the attack that decided a verdict, with its own gap if it is not the first; a dash without a verdict."""
    if row.verdict.gap is None or not has_power(row.verdict.outcome):
        return "–"
    gap = "" if row.verdict.attack == row.first_attack else f" {format_gap(row.attacks[row.verdict.attack].gap)}"
    return f"{ATTACK_NAMES[row.verdict.attack]}{gap}"


def list_rates(report: Report, field: str) -> list[str]:
    """List the error rates of a family of cells, the largest first."""
    return sorted({key for row in report.rows for key in getattr(row, field)}, key=float, reverse=True)


def list_computed_rates(report: Report, field: str) -> list[str]:
    """List the rates at which a row has a number. A column without numbers becomes a line below the table."""
    return [
        key
        for key in list_rates(report, field)
        if any(not isinstance(getattr(row, field).get(key), str | None) for row in report.rows)
    ]


def explain_omitted_columns(report: Report) -> list[str]:
    """Write one line per reason for the columns without numbers."""
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
