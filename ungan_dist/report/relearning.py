"""Relearning: how fast each method's models learn the forget set again."""

from __future__ import annotations

from typing import NamedTuple

from ungan_dist.attack.estimates import Relearning
from ungan_dist.attack.evidence import Report
from ungan_dist.report.cells import format_gap, format_number, format_signed

EXPLANATION = (
    "Every model was fine-tuned on a tenth of the forget set, and its accuracy on the other nine tenths was measured "
    "after each step. A model that only hides the forget set learns it again faster than Retrain. No verdict uses this."
)


class RelearningLine(NamedTuple):
    """One method's line, as texts."""

    title: str
    accuracies: list[str]
    """Before the first step, in the middle, and after the last, in per cent."""
    area: str
    gap: str
    """Area minus Retrain's with its 95 % interval."""
    conclusion: str


def build_relearning_table(report: Report) -> list[RelearningLine]:
    """Build a line for each row with a curve; empty where relearning was not asked for."""
    return [_write(row.title, row.relearning) for row in report.rows if row.relearning is not None]


def describe_relearning(report: Report) -> list[str]:
    """State the relearning of each row in a sentence."""
    lines = build_relearning_table(report)
    sentences = [
        f"Relearning of {line.title}: accuracy {' → '.join(line.accuracies)} %, area {line.area}, against Retrain "
        f"{line.gap}{f' ({line.conclusion})' if line.conclusion else ''}."
        for line in lines
    ]
    return [*sentences, *([EXPLANATION] if lines else [])]


def _write(title: str, found: Relearning) -> RelearningLine:
    chosen = [found.curve[0], found.curve[len(found.curve) // 2], found.curve[-1]]
    gap = found.gap
    return RelearningLine(
        title,
        [format_number(100 * value, 1) for value in chosen],
        format_number(sum(found.area) / len(found.area), 3),
        "–" if gap is None else f"{format_signed(gap.mean)} {format_gap(gap)}",
        "" if gap is None else "faster" if gap.low > 0 else "slower" if gap.high < 0 else "no difference seen",
    )
