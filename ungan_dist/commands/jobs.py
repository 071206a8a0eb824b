"""Share code between the commands on jobs: the connection, and the printed state of a run."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url, split_run

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

    from ungan_dist.runs.status import Status

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


class JobParser(Parser):
    """Add the options that name a cluster's Jobs API."""

    def __init__(self, command: str) -> None:
        super().__init__(command)
        self.add_argument("--address", default=None)
        self.add_argument("--without-token", action="store_true")


def open_jobs_api(own: argparse.Namespace) -> JobSubmissionClient:
    """Connect to the Jobs API that a command's options name."""
    from ungan_dist.cluster.jobs_api import connect_jobs_api

    return connect_jobs_api(own.address or DEFAULT_ADDRESS, without_token=own.without_token)


def write_log(text: str) -> None:
    """Print a part of a job's log at once."""
    print(text, end="", flush=True)


def read_visible_status(run: str) -> Status | None:
    """Return the newest status of a run's reports, or None if this machine cannot read it."""
    from ungan_dist.runs.status import read_status

    if not run:
        return None
    from ungan_dist.runs.views import list_views

    try:
        with open_status_folder(run) as folder:
            found = [read_status(folder / place) for place in ("", *list_views(folder))]
            # a job writes the status of one report
            return max((status for status in found if status), key=lambda status: status.time, default=None)
    except (ConfigError, Unfinished):
        return None


@contextlib.contextmanager
def open_status_folder(run: str) -> Iterator[Path]:
    """Open a run folder or that of a view; for a run in object storage, a temporary folder with its status files.

    Raises:
        ConfigError: the storage cannot be used.
        Unfinished: the storage fails.
    """
    if not is_url(run):
        yield Path(run)
        return
    from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE
    from ungan_dist.runs.status import STATUS_FILE
    from ungan_dist.runs.storage.mirror import connect
    from ungan_dist.runs.storage.remote import fetch_requests
    from ungan_dist.runs.views import list_views, split_url

    run, report = split_url(run)
    output, name = split_run(run)
    # not the working folder, which a driver on this machine may be using
    with tempfile.TemporaryDirectory(prefix="ungan_dist-status-") as aside:
        mirror = connect(output, folder=Path(aside))
        fetch_requests(mirror, name)
        statuses = [f"{place}/{STATUS_FILE}" for place in list_views(Path(aside) / name)]
        for file in (STATUS_FILE, *statuses, PURGED_FILE, PURGING_FILE):
            mirror.pull_json(f"{name}/{file}")
        yield Path(aside) / name / report


def print_status(run: str, folder: Path, status: Status | None) -> int:
    """Print a run's state and return the matching exit code."""
    from ungan_dist.runs.status import RunState, current_state

    state = current_state(folder)
    print(f"{escape_controls(run)}: {state}")
    if state is RunState.CORRUPT and status is None:
        print(f"  its status.json is damaged: check the run with ungan-dist verify {escape_controls(run)}")
    elif state is RunState.CORRUPT:
        print("  its purge was cut short: finish it with ungan-dist purge")
    if state in (RunState.CORRUPT, RunState.PURGED):
        return state.exit_code
    if status is None:
        print("  it is being prepared" if state is RunState.RUNNING else "  nothing was computed yet")
        return state.exit_code
    if state is RunState.PARTIAL and status.state is RunState.RUNNING:
        from ungan_dist.runs.again import describe_continuing

        print(f"  its driver is gone: {escape_controls(describe_continuing(folder))}")
    if state is RunState.RUNNING and status.state is not RunState.RUNNING:
        print("  it is being prepared, or its report is being written")
    elif status.progress is not None and not status.missing:
        print(f"  {describe_progress(status, stopped=state is not RunState.RUNNING)}")
    if status.error:
        print(f"  {escape_controls(status.error)}")
    for sentence in status.failed:
        print(f"  {escape_controls(sentence)}")
    for name in status.missing:
        print(f"  missing: {escape_controls(name)}")
    if (folder / "report.html").exists():
        print(f"  report: {escape_controls(str(folder / 'report.html'))}")
    return state.exit_code


def print_views(folder: Path) -> None:
    """Print a line for each report of a run on fewer methods, seeds or shadow models than its own."""
    from ungan_dist import store
    from ungan_dist.runs.status import current_state
    from ungan_dist.runs.views import describe_extent, list_views, read_extent

    for place in list_views(folder):
        try:
            extent = describe_extent(read_extent(folder, place))
        except (ConfigError, store.CorruptResult) as error:
            extent = str(error)
        print(f"  {place}: {current_state(folder / place)}; {escape_controls(extent)}")


def describe_progress(status: Status, *, stopped: bool = False) -> str:
    """Describe a run's last progress event in one line."""
    from ungan_dist.runs.progress import clock

    event, left = status.progress, status.seconds_left
    assert event is not None
    text = f"{event.stage}: {event.done} of {event.total} done"
    if stopped:
        return f"stopped in stage {text}"
    text = text if left is None else f"{text}, about {clock(left)} left in this stage"
    return f"{text}; {escape_controls(event.note)}" if event.within else text


def print_job(job: JobDetails) -> int:
    """Print the state of a job's run and return the matching exit code."""
    from ungan_dist.cluster.jobs import RUN_KEY, judge_job

    run = (job.metadata or {}).get(RUN_KEY, "")
    status = read_visible_status(run)
    state, exit_code, detail = judge_job(job, status)
    print(f"job {job.submission_id}: {state}" + (f" ({detail})" if detail else ""))
    print(f"  run folder: {run or 'unknown'}{'' if status else ' (not visible from here)'}")
    if exit_code == 3 and job.status.is_terminal():
        print("  to continue, run the same submit command")
    return exit_code
