"""Print a report on the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.files import escape_controls
from ungan_dist.runs.status import RunState

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Report


def show(report: Report, folder: Path, *, url: str | None = None) -> int:
    """Print the table and the place of the report, and return the exit code."""
    from rich.console import Console

    from ungan_dist.report.terminal import WIDTH, build_terminal_table
    from ungan_dist.runs.views import split_place

    run, _ = split_place(folder)
    console = Console()
    if not console.is_terminal:
        # rich would assume 80 columns for a file
        console.width = max(console.width, WIDTH)
    console.print(build_terminal_table(report, min(console.width, WIDTH)))
    if report.copies:
        warning = f"warning: {report.copies} The first are: {', '.join(report.copied)}"
        print(escape_controls(warning), file=sys.stderr)
    print(escape_controls(f"report: {folder / 'report.html'}"))
    if told := _describe_others(folder):
        print(escape_controls(told))
    if url is not None:
        print(f"run: {url}")
    if report.failures:
        print("these failed, and would fail again (--execution.retry-failed tries again):", file=sys.stderr)
        for failure in report.failures:
            where = f" (traceback: {run / failure.traceback})" if failure.traceback else ""
            print(f"  {escape_controls(failure.sentence + where)}", file=sys.stderr)
    if report.status == "PARTIAL":
        from ungan_dist.runs.again import describe_continuing

        print(
            f"partial: {escape_controls(describe_continuing(folder))}\nMissing:",
            *report.missing,
            sep="\n  ",
            file=sys.stderr,
        )
    return RunState(report.status).exit_code


def _describe_others(folder: Path) -> str:
    """Describe the other reports of the same run in one line; empty if there are none."""
    from ungan_dist import store
    from ungan_dist.errors import ConfigError
    from ungan_dist.runs.views import describe_extent, list_views, read_extent, split_place

    run, place = split_place(folder)
    try:
        others = len(list_views(run)) + 1 - len({"", place})
        own, all_others = read_extent(run, ""), f"ungan-dist status {run}"
    except (ConfigError, store.CorruptResult):
        return ""
    if not place:
        return f"other reports of this run: {others} ({all_others})" if others else ""
    return f"the run's own report has {describe_extent(own)} ({all_others})"
