"""``ungan-dist export``: write the table of a run, or the results of single examples, for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Report

USAGE = """\
usage: ungan-dist export RUN [--format csv|latex|markdown|parquet] [--output FILE]
       ungan-dist export RUN --records

Writes the table of a run to the terminal, or to a file. Trains nothing. RUN is a run folder, or RUN/reports/NAME.

  --format FORMAT   csv (default): numbers in full, each interval in three columns. parquet: the same, needs --output.
                    latex: a table for booktabs. markdown: the table of table.md
  --output FILE     write this file, readable by you alone
  --records         write RUN/records.parquet: log-odds, score and p value of every example, method and seed, what the
                    shadow models show of it, and print the least and the most forgotten examples

The records are personal data. They stay in the run folder, readable by you alone, and purge removes them.
Their columns: docs/audit.md.

examples:
  ungan-dist export runs/digits-0123abcd --format latex
  ungan-dist export runs/digits-0123abcd --format parquet --output table.parquet
"""
_FORMATS = ("csv", "latex", "markdown", "parquet")


def main(arguments: list[str]) -> int:
    """Export a table or records."""
    parser = Parser("export")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--format", choices=_FORMATS)
    parser.add_argument("--output", metavar="FILE", type=Path)
    parser.add_argument("--records", action="store_true")
    own = parser.parse(arguments)
    if is_url(own.run):
        raise ConfigError(
            f"export reads a run folder on this machine: copy {own.run} with the storage's own tools, or name its "
            f"working folder, which ungan-dist report fills"
        )
    if own.records:
        if own.format or own.output:
            raise ConfigError(
                "--records takes neither --format nor --output: the records are personal data, and purge finds them "
                "only in the run folder"
            )
        return _export_records(Path(own.run))
    form = own.format or "csv"
    if form == "parquet" and own.output is None:
        raise ConfigError("parquet is no text: name a file with --output FILE")

    from ungan_dist import store
    from ungan_dist.errors import explain_file_errors
    from ungan_dist.report.export import export_table

    content = export_table(read_report(Path(own.run)), form)
    if own.output is None:
        sys.stdout.write(content.decode())
        return 0
    with explain_file_errors(own.output):
        store.write_file(own.output, content)
    print(escape_controls(f"table: {own.output}"))
    return 0


def read_report(run: Path) -> Report:
    """Read the report of a finished run from its record, or score a partial run again; writes nothing.

    Raises:
        ConfigError: this is not a run folder, or the run was purged.
        Unfinished: Too little was committed for a report.
    """
    from ungan_dist.runs.finished import find_report
    from ungan_dist.runs.views import read_place

    record, place = read_place(run)
    if finished := find_report(run):
        return finished.report

    from ungan_dist.runs.plan import reopen_plan
    from ungan_dist.runs.progress import progress
    from ungan_dist.runs.reporting import build_report

    with progress("auto") as on_progress:
        return build_report(reopen_plan(record, place), [], on_progress)


def _export_records(run: Path) -> int:
    from ungan_dist.runs.examples import write_records
    from ungan_dist.runs.plan import reopen_plan
    from ungan_dist.runs.progress import progress
    from ungan_dist.runs.views import read_place

    record, place = read_place(run)
    with progress("auto") as on_progress:
        path, ranked = write_records(reopen_plan(record, place), on_progress=on_progress)
    print(escape_controls(f"records: {path}"))
    print("personal data: least and most forgotten examples, by their index in the data")
    for title, (least, most) in ranked.items():
        print(escape_controls(f"  {title}: least {', '.join(map(str, least))}; most {', '.join(map(str, most))}"))
    return 0
