"""What the commands about jobs share: where the cluster is, and what is said of a run."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.urls import is_url, split_run

if TYPE_CHECKING:
    from ungan_dist.cluster.job_outcome import Job
    from ungan_dist.runs.progress import Event
    from ungan_dist.runs.status import Status

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


class Options(argparse.ArgumentParser):
    """The options of a job's command; what is wrong with them is a ``ConfigError``."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"ungan-dist {command}", add_help=False, allow_abbrev=False)
        self.add_argument("--address", default=None)
        self.add_argument("--without-token", action="store_true")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def visible_status(run: str) -> Status | None:
    """The status of a run folder, where this machine sees it."""
    from ungan_dist.runs.status import read_status

    if not run:
        return None
    try:
        with seen(run) as folder:
            return read_status(folder)
    except (ConfigError, Unfinished):
        return None


@contextlib.contextmanager
def seen(run: str) -> Iterator[Path]:
    """A run folder; of a run in object storage, a folder with the files that say how it stands.

    Raises:
        ConfigError: the storage cannot be used.
        Unfinished: it fails.
    """
    if not is_url(run):
        yield Path(run)
        return
    from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE
    from ungan_dist.runs.status import STATUS_FILE
    from ungan_dist.runs.storage.mirror import connect

    output, name = split_run(run)
    # not the working folder: a driver on this machine may be at work there
    with tempfile.TemporaryDirectory(prefix="ungan_dist-status-") as aside:
        mirror = connect(output, folder=Path(aside))
        for file in (STATUS_FILE, PURGED_FILE, PURGING_FILE):
            mirror.pull_json(f"{name}/{file}")
        yield Path(aside) / name


def say_status(run: str, folder: Path, status: Status) -> int:
    """Prints a run's own word; returns the exit code that says the same."""
    from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE

    if (folder / PURGING_FILE).exists():
        print(f"{run}: its purge was cut short: finish it with ungan-dist purge")
        return 3
    if (folder / PURGED_FILE).exists():
        print(f"{run}: PURGED (was {status.state})")
        return 0
    state, code = status.state, {"COMPLETE": 0, "FAILED": 1}.get(status.state, 3)
    if state == "RUNNING" and status.host == platform.node() and not _alive(status.pid):
        state = "PARTIAL (its driver is gone: run the same command again)"
    print(f"{run}: {state}")
    if state == "RUNNING" and status.progress is not None:
        print(f"  {step(status.progress)}")
    if status.error:
        print(f"  {status.error}")
    for name in status.missing:
        print(f"  missing: {name}")
    if (folder / "report.html").exists():
        print(f"  report: {folder / 'report.html'}")
    return code


def step(event: Event) -> str:
    """A run's last step in words: what is going on, how much of it is done, and what is left at its pace."""
    from ungan_dist.runs.progress import clock

    left = "" if event.seconds_left is None else f", about {clock(event.seconds_left)} left of this stage"
    return f"{event.stage}: {event.done} of {event.total} done{left}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def say_outcome(job: Job) -> int:
    """Prints what became of a job's run; returns the exit code that says the same."""
    from ungan_dist.cluster.job_outcome import outcome

    status = visible_status(job.run)
    end = outcome(job, status)
    print(f"job {job.id}: {end.word}" + (f" ({end.detail})" if end.detail else ""))
    where = "" if status else " (not visible from here)"
    print(f"  run folder: {job.run or 'not one of ours'}{where}")
    if end.exit_code == 3 and job.ended:
        print("  the same submit command continues it")
    return end.exit_code
