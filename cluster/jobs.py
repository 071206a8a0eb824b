"""Jobs of a cluster: look up, follow, stop, and judge by the run's own status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.status import RunState, Status

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

RUN_KEY = "ungan_run"
"""Key of the run folder in a job's metadata."""
STOP_SECONDS = 30
"""Seconds from SIGTERM to SIGKILL of a stopped job, in which its driver writes a partial report."""
CLOCK_SECONDS = 2.0
"""Seconds by which the clocks of two nodes may differ."""

_STATES = {0: RunState.COMPLETE, 4: RunState.WITH_FAILURES, 3: RunState.PARTIAL, 2: RunState.REFUSED}


def judge_job(job: JobDetails, status: Status | None) -> tuple[str, int, str]:
    """Judge a job by the status that its run wrote, else by the driver's exit code. Ray's own state is not reliable.

    Args:
        job: as reported by the cluster.
        status: of the run folder, if this machine can read it.

    Returns:
        The state (a run's, ``REFUSED`` for wrong config or input, or Ray's state of an active job), the exit code, and
        a detail or an empty text.
    """
    if not job.status.is_terminal():
        return job.status.value, 3, ""
    code, stopped = job.driver_exit_code, "stopped" if job.status.value == "STOPPED" else ""
    if status is not None and _was_written_by(job, status):
        if status.state in (RunState.COMPLETE, RunState.WITH_FAILURES):
            return status.state, status.state.exit_code, "; ".join(status.failed)
        if status.state is RunState.REFUSED:
            return status.state, status.state.exit_code, status.error
        if status.state is RunState.FAILED:
            return "FAILED", code if code in (1, 2) else 1, status.error
        killed = "its driver was killed" if status.state is RunState.RUNNING else ""
        detail = killed or stopped or status.error or "; ".join(status.missing)
        return RunState.PARTIAL, 3, detail
    if stopped:
        return RunState.PARTIAL, 3, stopped
    if code not in _STATES:
        return "FAILED", 1, "" if code else job.message or ""
    return _STATES[code], code, ""


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
    """Copy a job's log as it grows, until the job ends.

    Raises:
        ConfigError: the cluster has no such job.
        Unfinished: the connection is lost; the job may still run.
    """
    from aiohttp import ClientError

    get_job(client, id)

    async def copy_log() -> None:
        async for text in client.tail_job_logs(id):
            write(text)

    try:
        asyncio.run(copy_log())
        return _wait_for_end(client, id, seconds=30)
    except (OSError, RuntimeError, ClientError) as error:
        raise Unfinished(
            f"the connection to job {id} is lost ({error}); follow it again with ungan-dist status"
        ) from error


def stop_job(client: JobSubmissionClient, id: str) -> JobDetails:
    """Stop a job and wait for its end; committed results are kept.

    Raises:
        ConfigError: the cluster has no such job.
        Unfinished: it has not ended in time.
    """
    if not get_job(client, id).status.is_terminal():
        client.stop_job(id)
    return _wait_for_end(client, id, seconds=STOP_SECONDS + 30)


def _wait_for_end(client: JobSubmissionClient, id: str, *, seconds: float) -> JobDetails:
    deadline = time.monotonic() + seconds
    while not (job := get_job(client, id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise Unfinished(f"job {id} is still {job.status.value}")
        time.sleep(0.5)
    return job
