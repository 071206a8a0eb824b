"""``ungan-dist report``: a run's report written anew."""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist report RUN

Writes the report of a run folder, or of a run's URL in object storage, anew from what is committed there; trains
nothing.
"""


def main(arguments: list[str]) -> int:
    """Writes and shows a report."""
    match arguments:
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case [folder] if not folder.startswith("-"):
            pass
        case _:
            raise ConfigError(f"report takes one run folder, got {' '.join(arguments)!r}")

    from ungan_dist.commands.show import show
    from ungan_dist.runs.pipeline import report_of
    from ungan_dist.runs.progress import progress
    from ungan_dist.runs.record import read_run, refuse_purged

    mirror, here = None, Path(folder)
    if is_url(folder):
        from ungan_dist.runs.storage.remote import fetch_run

        mirror, here, damaged = fetch_run(folder)
        for line in damaged:
            print(f"damaged, so left out: {line}", file=sys.stderr)
    record = read_run(here)
    refuse_purged(here)

    with progress("auto") as on_progress:
        report, path = report_of(record, on_progress=on_progress)
    if mirror is None:
        return show(report, path)
    mirror.push(path.name, "report.json")
    return show(report, path, url=folder)
