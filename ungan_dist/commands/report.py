"""``ungan-dist report``: write the report of a run again."""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.commands.parser import Parser
from ungan_dist.config.attack import ReportConfig
from ungan_dist.errors import ConfigError
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist report RUN [--figures png,pdf]

Writes the report of a run again from its committed results, and prints the table. Trains nothing. If nothing changed
since the last report, only prints it. RUN is a run folder, or the URL of a run in object storage. RUN/reports/NAME is a
report on fewer methods, seeds or shadow models: ungan-dist status RUN lists them.

  --figures png,pdf   also write the figures as PNG, PDF or both, at the width of a paper's column
"""


def main(arguments: list[str]) -> int:
    """Write a report and print its table."""
    parser = Parser("report")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--figures", metavar="FORMATS", default="")
    own = parser.parse(arguments)
    folder, figures = own.run, tuple(filter(None, own.figures.split(",")))
    try:
        ReportConfig(figures=figures)
    except ValueError as error:
        raise ConfigError(f"--{error}") from error

    from ungan_dist.commands.show import show
    from ungan_dist.runs.finished import find_report
    from ungan_dist.runs.progress import progress
    from ungan_dist.runs.record import read_run, refuse_purged
    from ungan_dist.runs.views import REPORT_FILE, split_place, split_url

    mirror, here = None, Path(folder)
    if is_url(folder):
        from ungan_dist.runs.storage.remote import fetch_run

        url, place = split_url(folder)
        mirror, here, damaged = fetch_run(url)
        for line in damaged:
            print(escape_controls(f"damaged, therefore left out: {line}"), file=sys.stderr)
    elif not figures and (finished := find_report(here)):
        return show(finished.report, finished.folder)
    else:
        here, place = split_place(here)
    record = read_run(here)
    refuse_purged(here)

    from ungan_dist.runs.reporting import rewrite_report

    with progress("auto") as on_progress:
        report, path = rewrite_report(record, place, figures=figures, on_progress=on_progress)
    if mirror is None:
        return show(report, path)
    mirror.push(str(path.relative_to(mirror.folder)), REPORT_FILE)
    return show(report, path, url=folder)
