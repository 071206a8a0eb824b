"""One table and one figure over several runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ungan_dist.attack.compare import (
    Audited,
    compare_with_first,
    describe_pairing,
    flatten_comparison,
    list_attacks,
    list_methods,
)
from ungan_dist.attack.evidence import Interval, Row
from ungan_dist.attack.plots import INK, TONES
from ungan_dist.attack.summary import format_outcome
from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.report.cells import (
    format_deciding_attack,
    format_gap,
    format_interval,
    format_percent,
    format_signed,
    style_of_row,
)
from ungan_dist.report.drawing import make_figure, use_style
from ungan_dist.report.export import to_csv, to_latex
from ungan_dist.report.markdown import escape
from ungan_dist.report.power import get_delta

MARKERS = "osD^vP*X"


def name_columns(runs: Sequence[Audited]) -> list[str]:
    """Name the columns of the table: three of names, the verdict, and two for each attack."""
    found = ["Method", "Run", "Verdict", "Decided by", "Gap to the reference", "Test %"]
    for name in list_attacks(runs):
        found += [f"AUC, {ATTACK_NAMES[name]}", f"{ATTACK_NAMES[name]} minus the first run's"]
    return [*found, "Paired with the first run"]


def build_lines(runs: Sequence[Audited]) -> list[list[str]]:
    """Build the table: one line per method and run, in the order of ``name_columns``."""
    lines: list[list[str]] = []
    for method, title in list_methods(runs).items():
        differences = {name: [None, *compare_with_first(runs, method, name)] for name in list_attacks(runs)}
        for position, run in enumerate(runs):
            row = _find_row(run, method)
            if row is None:
                continue
            line = [title, run.name, *_write(row)]
            for name, found in differences.items():
                auc = " ".join(format_interval(row.attacks[name].auc, 3, bounds=True))
                line += [auc, _write_difference(found[position])]
            lines.append([*line, describe_pairing(position, [found[position] for found in differences.values()])])
    return lines


def write_comparison(runs: Sequence[Audited], form: str) -> str:
    """Write the table as ``csv``, ``latex`` or ``markdown``."""
    if form == "csv":
        return to_csv(flatten_comparison(runs))
    headings, lines = name_columns(runs), build_lines(runs)
    if form == "latex":
        return to_latex(headings, lines)
    rule = [":---"] * 4 + ["---:"] * (len(headings) - 4)
    rows = [headings, rule, *([escape(cell) for cell in line] for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def draw_comparison(runs: Sequence[Audited], path: Path) -> bytes:
    """Draw the gaps of all methods, a mark per run; the ending of the path is the format."""
    has_gap = {row.method for run in runs for row in run.report.rows if row.verdict.gap is not None}
    methods = {method: title for method, title in list_methods(runs).items() if method in has_gap}
    step = 0.8 / len(runs)
    with use_style():
        figure, axes = make_figure(6.75, 1.2 + 0.24 * len(methods) * len(runs))
        axes.axvline(0, color=INK, linewidth=0.8)
        for position, (run, marker) in enumerate(zip(runs, MARKERS * len(runs), strict=False)):
            delta = get_delta(run.report)
            if delta is not None and position == 0:
                axes.axvspan(-delta, delta, color="#2f9e62", alpha=0.13, linewidth=0)
            axes.plot([], [], marker=marker, color=INK, linestyle="none", label=run.name)
            for height, method in enumerate(methods):
                row = _find_row(run, method)
                if row is None or row.verdict.gap is None:
                    continue
                gap, colour = row.verdict.gap, TONES[style_of_row(row)]
                y = height + (position - (len(runs) - 1) / 2) * step
                axes.plot([gap.low, gap.high], [y, y], color=colour, linewidth=1.6)
                axes.plot(gap.mean, y, marker=marker, markersize=5, color=colour)
        axes.set_yticks(range(len(methods)), list(methods.values()))
        axes.invert_yaxis()
        axes.set_xlabel("gap in AUC to each run's reference, 90 % interval")
        figure.legend(loc="outside lower center", ncols=min(3, len(runs)))
        stream = io.BytesIO()
        figure.savefig(stream, format=path.suffix[1:], dpi=300, facecolor="white")
    return stream.getvalue()


def _find_row(run: Audited, method: str) -> Row | None:
    return next((row for row in run.report.rows if row.method == method), None)


def _write(row: Row) -> list[str]:
    gap = row.verdict.gap
    return [
        format_outcome(row),
        format_deciding_attack(row),
        "–" if gap is None else f"{format_signed(gap.mean)} {format_gap(gap)}",
        format_percent(row.accuracy.get("test"), bounds=True),
    ]


def _write_difference(found: Interval | str | None) -> str:
    if not isinstance(found, Interval):
        return "–"
    return f"{format_signed(found.mean)} {format_gap(found)}"
