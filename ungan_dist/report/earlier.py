"""Earlier requests of a sequence: their audit, repeated with the models of this request."""

from __future__ import annotations

from typing import NamedTuple

from ungan_dist.attack.estimates import EarlierRequest, Interval
from ungan_dist.attack.evidence import Report
from ungan_dist.config.methods import title_of
from ungan_dist.report.cells import format_gap, format_interval, format_signed


class EarlierLine(NamedTuple):
    """One method's line of an earlier request, as texts."""

    title: str
    auc: str
    gap: str
    outcome: str
    change: str
    returned: str


class EarlierTable(NamedTuple):
    """The audit of one earlier request."""

    heading: str
    lines: list[EarlierLine]


EXPLANATION = (
    "The examples of these requests are in no set of this run. Gap: AUC minus that of this run's Retrain, which never "
    "saw them. Change: AUC minus that of the original, the model before this request. Both are concluded from all "
    "attacks, by the rule and the margin of the verdicts."
)


def build_earlier_tables(report: Report) -> list[EarlierTable]:
    """Build a table for each earlier request, the first one first."""
    return [
        EarlierTable(
            _name(number, request),
            [
                EarlierLine(
                    row.title,
                    " ".join(format_interval(row.auc, 3, bounds=True)),
                    _write(row.gap),
                    row.outcome,
                    _write(row.change),
                    row.returned,
                )
                for row in request.rows
            ],
        )
        for number, request in enumerate(report.earlier, start=1)
    ]


def describe_earlier(report: Report) -> list[str]:
    """State for each earlier request what came back; empty for a run that is no sequence."""
    lines: list[str] = []
    for table in build_earlier_tables(report):
        found = [
            f"{line.title} {line.returned} (change {line.change}), {line.outcome}"
            for line in table.lines
            if line.returned != "before"
        ]
        lines.append(f"{table.heading}: {'; '.join(found) or 'no method has a result'}.")
    return lines


def _name(number: int, request: EarlierRequest) -> str:
    return (
        f"Earlier request {number}, {request.num_forget:,} examples, forgotten by {title_of(request.method)} in "
        f"{request.run}"
    )


def _write(gap: Interval | None) -> str:
    return "–" if gap is None else f"{format_signed(gap.mean)} {format_gap(gap)}"
