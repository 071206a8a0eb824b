"""``ungan-dist compare``: one table and one figure over several runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError, explain_file_errors
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.attack.compare import Audited

USAGE = """\
usage: ungan-dist compare RUN RUN … [--format csv|latex|markdown] [--figure FILE]

Prints one table over runs: other data, models, settings of the methods, or numbers of shadow models. Trains nothing and
changes no run. Each RUN is a run folder, or RUN/reports/NAME.

The verdict is that of all attacks together. For each attack, the table has the AUC, and the AUC minus that of the first
run, with a 90 % interval paired by seed and by example. The
difference exists where both runs have the same data, the same shadow models, and a seed with the same sets. Elsewhere,
the last column says what differs. An en dash stands for an attack that a run does not have, as LiRA in a quick audit.

  --format FORMAT   markdown, latex (booktabs) or csv: numbers in full, each interval in three columns; defaults to a
                    table for reading on a terminal, and to markdown elsewhere
  --figure FILE     also draw the gaps of all runs into this file: .svg, .png or .pdf

examples:
  ungan-dist compare runs/digits-0123abcd runs/digits-89abcdef
  ungan-dist compare runs/digits-0123abcd runs/digits-0123abcd/reports/8-shadows-1-seed-19f3a5a2 --figure gaps.pdf
"""
_FIGURES = (".svg", ".png", ".pdf")


def main(arguments: list[str]) -> int:
    """Compare runs."""
    parser = Parser("compare")
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--format", choices=("markdown", "latex", "csv"))
    parser.add_argument("--figure", metavar="FILE", type=Path)
    own = parser.parse(arguments)
    if len(own.runs) < 2:
        raise ConfigError("compare needs two runs or more")
    if own.figure is not None and own.figure.suffix not in _FIGURES:
        raise ConfigError(f"--figure {own.figure}: the file must end in {', '.join(_FIGURES)}")

    from ungan_dist import store
    from ungan_dist.report.comparison import draw_comparison, list_notes, write_comparison

    runs = [_read(run, name) for run, name in zip(own.runs, _name(own.runs), strict=True)]
    if own.format is None and sys.stdout.isatty():
        _show(runs)
    else:
        sys.stdout.write(escape_controls(write_comparison(runs, own.format or "markdown")))
    for note in list_notes(runs) if own.format in ("latex", "csv") else ():
        print(escape_controls(f"note: {note}"), file=sys.stderr)
    if own.figure is not None:
        with explain_file_errors(own.figure):
            store.write_file(own.figure, draw_comparison(runs, own.figure))
        print(escape_controls(f"figure: {own.figure}"), file=sys.stderr)
    return 0


def _show(runs: list[Audited]) -> None:
    from rich.console import Console

    from ungan_dist.report.comparison import build_comparison_table

    Console().print(build_comparison_table(runs))


def _name(runs: list[str]) -> list[str]:
    """Name runs by as few of the last parts of their paths as tell them apart."""
    parts = [Path(run).absolute().parts for run in runs]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("the same run is given twice")


def _read(run: str, name: str) -> Audited:
    if is_url(run):
        raise ConfigError(f"compare reads run folders on this machine: copy {run} with the storage's own tools")
    from ungan_dist.attack.compare import Audited
    from ungan_dist.runs.plan import reopen_plan
    from ungan_dist.runs.progress import progress
    from ungan_dist.runs.reporting import build_report
    from ungan_dist.runs.units import is_done
    from ungan_dist.runs.views import read_place

    record, place = read_place(Path(run))
    plan = reopen_plan(record, place)
    with progress("auto") as on_progress:
        report = build_report(plan, [], on_progress)
    fleet = (record.data_hash, plan.split.pool.tobytes(), *sorted(unit.id for unit in plan.shadows if is_done(unit)))
    return Audited(name=name, report=report, fleet=fleet)
