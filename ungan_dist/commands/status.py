"""``ungan-dist status``: show the progress of a run or a job."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.commands.jobs import JobParser, open_jobs_api, open_status_folder, print_job, print_status, write_log
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import suggest_runs
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist status RUN
       ungan-dist status ID [--address URL] [--follow] [--without-token]

Show the state and progress of a run folder, a run in object storage, or a job of a cluster (default address
http://127.0.0.1:8265). --follow prints the job's log until it ends.

exit codes: 0 COMPLETE or PURGED; 3 RUNNING or PARTIAL; 1 FAILED or CORRUPT; 2 REFUSED, or no such run or job
"""


def main(arguments: list[str]) -> int:
    """Print the state of a run or a job."""
    parser = JobParser("status")
    parser.add_argument("what", metavar="RUN|ID")
    parser.add_argument("--follow", action="store_true")
    own = parser.parse(arguments)
    if is_url(own.what) or (own.address is None and Path(own.what).is_dir()):
        from ungan_dist.runs.status import read_status

        with open_status_folder(own.what) as folder:
            status = read_status(folder)
            if status is None:
                raise ConfigError(
                    f"{own.what} has no status: it is not a run folder, or its run has not started. "
                    f"{suggest_runs(folder)}"
                )
            return print_status(own.what, folder, status)
    if own.address is None and Path(own.what).exists():
        raise ConfigError(f"{own.what} is a file, not a run folder. {suggest_runs()}")
    if own.address is None and "/" in own.what:
        raise ConfigError(f"there is no folder {own.what}. {suggest_runs()}")

    from ungan_dist.cluster.jobs import follow_job, get_job

    try:
        client = open_jobs_api(own)
        job = follow_job(client, own.what, write_log) if own.follow else get_job(client, own.what)
    except ConfigError as error:
        if own.address is not None:
            raise
        raise ConfigError(
            f"{own.what} is no run folder here, and no job could be found: {error}. {suggest_runs()}"
        ) from error
    return print_job(job)
