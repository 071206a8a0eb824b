"""``ungan-dist report``: write the report of a run again."""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.commands.parser import Parser
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist report RUN

Writes the report of a run again from its committed results, and prints the table. Trains nothing. If nothing changed
since the last report, only prints it. RUN is a run folder, or the URL of a run in object storage.
"""


def main(arguments: list[str]) -> int:
    """Write a report and print its table."""
    parser = Parser("report")
    parser.add_argument("run", metavar="RUN")
    folder = parser.parse(arguments).run

    from ungan_dist.commands.show import show
    from ungan_dist.runs.finished import find_report
    from ungan_dist.runs.progress import progress
    from ungan_dist.runs.record import read_run, refuse_purged

    mirror, here = None, Path(folder)
    if is_url(folder):
        from ungan_dist.runs.storage.remote import fetch_run

        mirror, here, damaged = fetch_run(folder)
        for line in damaged:
            print(escape_controls(f"damaged, therefore left out: {line}"), file=sys.stderr)
    elif finished := find_report(here):
        return show(finished.report, finished.folder)
    record = read_run(here)
    refuse_purged(here)

    from ungan_dist.runs.reporting import rewrite_report

    with progress("auto") as on_progress:
        report, path = rewrite_report(record, on_progress=on_progress)
    if mirror is None:
        return show(report, path)
    mirror.push(path.name, "report.json")
    return show(report, path, url=folder)
