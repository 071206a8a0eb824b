"""Where the variation of a run comes from: originals, unlearnings of one original, and the draws of the examples."""

from __future__ import annotations

from ungan_dist.attack.evidence import Deviation, Report, StageSplit
from ungan_dist.report.cells import format_number

STATISTICS = {
    "gap": ("gap in AUC", 3, 1.0),
    "auc": ("AUC (b)", 3, 1.0),
    "accuracy_retain": ("retain accuracy, points", 2, 100.0),
    "accuracy_forget": ("forget accuracy, points", 2, 100.0),
    "accuracy_test": ("test accuracy, points", 2, 100.0),
    "accuracy_non_members": ("accuracy on never-seen examples of the forgotten classes, points", 2, 100.0),
}
"""Statistic → name, decimals and factor, in the order of the report."""


def describe_stages(report: Report) -> list[str]:
    """State what the variation of the gaps consists of, one sentence a row; empty with one unlearning an original."""
    lines: list[str] = []
    for row in report.rows:
        name = "gap" if "gap" in row.stages else "auc"
        if name in row.stages:
            lines.append(f"Variation of {row.title}, {STATISTICS[name][0]}: {_write(row.stages[name], name)}.")
    return [*lines, *([explain_stages(report)] if lines else [])]


def build_stage_table(report: Report) -> list[tuple[str, str]]:
    """Build the lines of the page's table: a row and statistic, and its deviations by stage."""
    return [
        (f"{row.title}, {STATISTICS[name][0]}", _write(row.stages[name], name))
        for row in report.rows
        for name in STATISTICS
        if name in row.stages
    ]


def explain_stages(report: Report) -> str:
    """Explain the deviations; empty with one unlearning an original."""
    number = report.sizes.get("unlearnings", 1)
    if number < 2:
        return ""
    return (
        f"Variation: standard deviations with their 95 % intervals, from {number} unlearnings of each original. Those "
        f"of originals exclude the other stages; of accuracies they include the draws of the sets. More unlearnings "
        f"narrow their own part alone, and cannot replace originals."
    )


def _write(split: StageSplit, statistic: str) -> str:
    _, digits, scale = STATISTICS[statistic]
    stages = {
        "originals": split.originals,
        "unlearnings": split.unlearnings,
        "draws of the examples": split.forget_sets,
    }
    found = [f"{name} {_write_deviation(one, digits, scale)}" for name, one in stages.items() if one is not None]
    return ", ".join(found)


def _write_deviation(deviation: Deviation, digits: int, scale: float) -> str:
    value, low, high = (
        format_number(scale * number, digits) for number in (deviation.value, deviation.low, deviation.high)
    )
    return f"{value} [{low}, {high}]"
