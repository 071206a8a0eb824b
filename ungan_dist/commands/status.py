"""``ungan-dist status``: show the progress of a run or a job."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ungan_dist.commands.jobs import (
    JobParser,
    open_jobs_api,
    open_status_folder,
    print_job,
    print_status,
    print_views,
    write_log,
)
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import CONFIG_FILE, nearest_run, suggest_runs
from ungan_dist.urls import is_url

_JOB = re.compile(r"[0-9a-f]{12}-\d+|raysubmit_\w+")
_SHARED = ("data", "shadows")
"""Folders beside the runs, which a pattern such as runs/*/ also names."""
_SEVERITY = (0, 3, 2, 1)
"""Exit codes, the worst last."""

USAGE = """\
usage: ungan-dist status RUN [RUN …]
       ungan-dist status ID [--address URL] [--follow] [--without-token]

Show the state of run folders, of runs in object storage, or of jobs of a cluster (default address
http://127.0.0.1:8265). A run that is active shows its stage and the time left in it. Its reports on fewer methods,
seeds or shadow models follow, each with its state. --follow prints the job's log until it ends.

examples:
  ungan-dist status runs/digits-0123abcd      one run
  ungan-dist status runs/*/                   every run of a folder

exit codes: 0 COMPLETE or PURGED; 4 COMPLETE WITH FAILURES; 3 RUNNING or PARTIAL; 1 FAILED or CORRUPT;
            2 REFUSED, or no such run or job; for several, the worst
"""


def main(arguments: list[str]) -> int:
    """Print the state of runs or jobs."""
    parser = JobParser("status")
    parser.add_argument("what", metavar="RUN|ID", nargs="+")
    parser.add_argument("--follow", action="store_true")
    own = parser.parse(arguments)
    if len(own.what) == 1:
        return _show(own.what[0], own)
    if own.follow:
        raise ConfigError(f"--follow takes one job, got {len(own.what)}: follow each in a terminal of its own")
    codes = [_show_or_refuse(what, own) for what in own.what if Path(what).name not in _SHARED]
    return max(codes, key=_SEVERITY.index, default=0)


def _show_or_refuse(what: str, own: argparse.Namespace) -> int:
    try:
        return _show(what, own)
    except ConfigError as error:
        print(f"ungan-dist: {error}", file=sys.stderr)
        return error.exit_code


def _show(what: str, own: argparse.Namespace) -> int:
    here = Path(what)
    if is_url(what) or (own.address is None and here.is_dir()):
        from ungan_dist.runs.status import read_status
        from ungan_dist.runs.views import list_views

        with open_status_folder(what) as folder:
            status = read_status(folder)
            if status is None and not (folder / CONFIG_FILE).is_file() and not list_views(folder):
                raise ConfigError(
                    f"{what} has no status: it is not a run folder, or its run has not started. {suggest_runs(folder)}"
                )
            exit_code = print_status(what, folder, status)
            print_views(folder)
            return exit_code
    if own.address is None and here.exists():
        raise ConfigError(f"{what} is a file, not a run folder. {suggest_runs()}")
    if own.address is None and ("/" in what or (nearest_run(here) and not _JOB.fullmatch(what))):
        raise ConfigError(f"there is no folder {what}. {suggest_runs(here)}")

    from ungan_dist.cluster.jobs import follow_job, get_job

    try:
        client = open_jobs_api(own)
        job = follow_job(client, what, write_log) if own.follow else get_job(client, what)
    except ConfigError as error:
        if own.address is not None:
            raise
        raise ConfigError(
            f"{what} is no run folder here, and no job could be found: {error}. {suggest_runs()}"
        ) from error
    return print_job(job)
