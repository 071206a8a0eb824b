"""One table and one figure over several runs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
from ungan_dist.files import escape_controls
from ungan_dist.report.cells import (
    format_deciding_attack,
    format_gap,
    format_interval,
    format_percent,
    format_signed,
    is_quick,
    style_of_row,
)
from ungan_dist.report.drawing import make_figure, use_style
from ungan_dist.report.export import to_csv, to_latex
from ungan_dist.report.markdown import escape
from ungan_dist.report.power import get_delta
from ungan_dist.report.terminal import STYLES

if TYPE_CHECKING:
    from rich.table import Table

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
                line += [_write_auc(row, name), _write_difference(found[position])]
            lines.append([*line, describe_pairing(position, [found[position] for found in differences.values()])])
    return lines


def write_comparison(runs: Sequence[Audited], form: str) -> str:
    """Write the table as ``csv``, ``latex`` or ``markdown``, which has the notes below."""
    if form == "csv":
        return to_csv(flatten_comparison(runs))
    headings, lines = name_columns(runs), build_lines(runs)
    if form == "latex":
        return to_latex(headings, lines)
    rule = [":---"] * 4 + ["---:"] * (len(headings) - 4)
    rows = [headings, rule, *([escape(cell) for cell in line] for line in lines)]
    notes = [f"\n{escape(note)}\n" for note in list_notes(runs)]
    return "".join([*(f"| {' | '.join(row)} |\n" for row in rows), *notes])


def list_notes(runs: Sequence[Audited]) -> list[str]:
    """List what the table cannot show in its cells: which of the runs are quick audits."""
    return [
        f"{run.name} is a quick audit, without shadow models: it has neither LiRA nor RMIA, and calls no method "
        f"equivalent."
        for run in runs
        if is_quick(run.report)
    ]


def build_comparison_table(runs: Sequence[Audited]) -> Table:
    """Build the table for a terminal: one row per method and run, in which each attack has a line."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    pairing = (
        "Minus the first run: the AUC minus that of the first run, where both share data, shadow models and a seed."
    )
    notes = [f"{pairing} Below a gap, and beside a difference: its 90 % interval.", *list_notes(runs)]
    caption = Text(escape_controls("\n".join(notes)))
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    for heading in ("Method", "Run", "Verdict, gap in AUC"):
        drawn.add_column(heading, overflow="fold")
    drawn.add_column("Test %", justify="right")
    for heading in ("Attack", "AUC", "Minus the first run"):
        drawn.add_column(heading, no_wrap=True)
    for method, title in list_methods(runs).items():
        differences = {name: [None, *compare_with_first(runs, method, name)] for name in list_attacks(runs)}
        shown = [(position, run, row) for position, run in enumerate(runs) if (row := _find_row(run, method))]
        for count, (position, run, row) in enumerate(shown, start=1):
            outcome, attack, gap, test = _write(row)
            words = outcome.replace(": ", ":\n").replace(", ", ",\n").replace(" (", "\n(")
            verdict = Text(words, STYLES[style_of_row(row)])
            verdict.append("" if row.verdict.gap is None else f"\n{gap}\nby {attack}", "not bold default")
            found = {name: some[position] for name, some in differences.items() if name in row.attacks}
            drawn.add_row(
                Text(escape_controls(title) if count == 1 else ""),
                Text(escape_controls(run.name)),
                verdict,
                test,
                Text("\n".join(ATTACK_NAMES[name] for name in found)),
                Text("\n".join(_write_auc(row, name) for name in found)),
                Text("\n".join(some if isinstance(some, str) else _write_difference(some) for some in found.values())),
                end_section=count == len(shown),
            )
    return drawn


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


def _write_auc(row: Row, name: str) -> str:
    if name not in row.attacks:
        return "–"
    return " ".join(format_interval(row.attacks[name].auc, 3, bounds=True))


def _write_difference(found: Interval | str | None) -> str:
    if not isinstance(found, Interval):
        return "–"
    return f"{format_signed(found.mean)} {format_gap(found)}"
