"""What became of a run, from its own word where that can be read; never from Ray's, which calls much a success."""

from __future__ import annotations

from dataclasses import dataclass

from ungan_dist.runs.status import Status

ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
_WORDS = {0: "COMPLETE", 3: "PARTIAL", 2: "REFUSED"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a cluster says of a job."""

    id: str
    state: str
    """Ray's: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    started: float
    """Seconds since 1970 on the cluster; 0 before its start."""
    finished: float | None
    """Likewise; none before its end."""
    exit_code: int | None
    """The driver's own, where it ended by itself."""
    message: str
    run: str
    """The run folder, as the cluster sees it."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run's state and the exit code that says the same."""

    word: str
    """``COMPLETE``, ``PARTIAL``, ``FAILED``, ``REFUSED`` (wrong config or input), or the job's state."""
    exit_code: int
    detail: str = ""


def outcome(job: Job, status: Status | None) -> Outcome:
    """The run's own status decides where this job wrote it; else its driver's exit code; a stopped job is partial.

    Args:
        job: as the cluster tells it.
        status: of the run folder, where it can be seen from here.
    """
    if not job.ended:
        return Outcome(word=job.state, exit_code=3)
    if status is not None and _is_of(job, status):
        match status.state:
            case "COMPLETE":
                return Outcome(word="COMPLETE", exit_code=0)
            case "PARTIAL":
                stopped = "stopped" if job.state == "STOPPED" else ""
                detail = stopped or status.error or "; ".join(status.missing)
                return Outcome(word="PARTIAL", exit_code=3, detail=detail)
            case "FAILED":
                code = job.exit_code if job.exit_code in (1, 2) else 1
                return Outcome(word="FAILED", exit_code=code, detail=status.error)
            case "RUNNING":
                return Outcome(word="PARTIAL", exit_code=3, detail="its driver was killed")
    if job.state == "STOPPED":
        return Outcome(word="PARTIAL", exit_code=3, detail="stopped")
    if job.exit_code is None:
        return Outcome(word="FAILED", exit_code=1, detail=job.message)
    code = job.exit_code if job.exit_code in _WORDS else 1
    return Outcome(word=_WORDS.get(code, "FAILED"), exit_code=code)


def _is_of(job: Job, status: Status) -> bool:
    """Whether a status was written by this job: one from before or after it is another attempt's."""
    # seconds by which the clocks of two nodes may differ
    slack = 2
    return job.started - slack <= status.time <= (job.finished or float("inf")) + slack
