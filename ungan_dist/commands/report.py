"""``ungan-dist report``: a run's report written anew."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist report RUN

Writes the report of a run folder anew from what is committed there; trains nothing.
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

    from ungan_dist.runs import read_run, refuse_purged

    record = read_run(Path(folder))
    refuse_purged(Path(folder))

    from ungan_dist.commands.show import show
    from ungan_dist.pipeline import report_of
    from ungan_dist.progress import progress

    with progress("auto") as tell:
        report, path = report_of(record, tell=tell)
    return show(report, path)
