"""Jobs of a cluster: look up, follow, stop, and judge by the run's own status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.status import Status

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

RUN_KEY = "ungan_run"
"""Key of the run folder in a job's metadata."""
STOP_SECONDS = 30
"""Seconds from SIGTERM to SIGKILL of a stopped job, in which its driver writes a partial report."""
LOST_SECONDS = 60.0
"""Seconds without a connection after which following a job is given up."""
CLOCK_SECONDS = 2.0
"""Seconds by which the clocks of two nodes may differ."""

_STATES = {0: "COMPLETE", 3: "PARTIAL", 2: "REFUSED"}


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """State of a job's run, with the matching exit code."""

    state: str
    """``COMPLETE``, ``PARTIAL``, ``FAILED``, ``REFUSED`` (wrong config or input), or Ray's state of an active job."""
    exit_code: int
    detail: str = ""


def judge_job(job: JobDetails, status: Status | None) -> JobOutcome:
    """Judge a job by the status that its run wrote, else by the driver's exit code. Ray's own state is not reliable.

    Args:
        job: as reported by the cluster.
        status: of the run folder, if this machine can read it.
    """
    if not job.status.is_terminal():
        return JobOutcome(state=job.status.value, exit_code=3)
    code, stopped = job.driver_exit_code, job.status.value == "STOPPED"
    if status is not None and _was_written_by(job, status):
        match status.state:
            case "COMPLETE":
                return JobOutcome(state="COMPLETE", exit_code=0)
            case "FAILED":
                return JobOutcome(state="FAILED", exit_code=code if code in (1, 2) else 1, detail=status.error)
            case "PARTIAL":
                detail = "stopped" if stopped else status.error or "; ".join(status.missing)
            case "RUNNING":
                detail = "its driver was killed"
        return JobOutcome(state="PARTIAL", exit_code=3, detail=detail)
    if stopped:
        return JobOutcome(state="PARTIAL", exit_code=3, detail="stopped")
    if code is None:
        return JobOutcome(state="FAILED", exit_code=1, detail=job.message or "")
    code = code if code in _STATES else 1
    return JobOutcome(state=_STATES.get(code, "FAILED"), exit_code=code)


def _was_written_by(job: JobDetails, status: Status) -> bool:
    """Return whether a status is from this job's time, and not from another attempt."""
    start = (job.start_time or 0) / 1000 - CLOCK_SECONDS
    end = job.end_time / 1000 + CLOCK_SECONDS if job.end_time else float("inf")
    return start <= status.time <= end


def get_job(client: JobSubmissionClient, id: str) -> JobDetails:
    """Return a job by its id.

    Raises:
        ConfigError: the cluster has no such job.
    """
    try:
        return client.get_job_info(id)
    except RuntimeError as error:
        if "404" in str(error):
            raise ConfigError(f"the cluster has no job {id!r}") from error
        raise


def follow_job(client: JobSubmissionClient, id: str, write: Callable[[str], object]) -> JobDetails:
    """Copy a job's log as it grows, until the job ends; reconnect after a lost connection.

    Raises:
        Unfinished: the cluster is unreachable; the job may still run.
    """
    from aiohttp import ClientError

    num_written = 0

    async def copy_log() -> None:
        nonlocal num_written
        position = 0  # every connection starts at the log's first character
        async for chunk in client.tail_job_logs(id):
            new = chunk[max(0, num_written - position) :]
            position += len(chunk)
            num_written += len(new)
            if new:
                write(new)

    last_contact = time.monotonic()
    while True:
        try:
            asyncio.run(copy_log())
            job = get_job(client, id)
            last_contact = time.monotonic()
            if job.status.is_terminal():
                return job
        except (OSError, RuntimeError, ClientError) as error:
            if time.monotonic() - last_contact > LOST_SECONDS:
                raise Unfinished(f"the cluster is unreachable ({error}); job {id} may still run") from error
        time.sleep(1)


def stop_job(client: JobSubmissionClient, id: str) -> JobDetails:
    """Stop a job and wait for its end; committed results are kept.

    Raises:
        ConfigError: the cluster has no such job.
        Unfinished: it has not ended in time.
    """
    job = get_job(client, id)
    if job.status.is_terminal():
        return job
    client.stop_job(id)
    deadline = time.monotonic() + STOP_SECONDS + 30
    while not (job := get_job(client, id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise Unfinished(f"job {id} was stopped but is still {job.status.value}")
        time.sleep(0.5)
    return job
