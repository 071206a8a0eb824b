"""The state of a run: a small file in its folder that outlives the process that wrote it."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path

from ungan_dist import store
from ungan_dist.errors import Terminated
from ungan_dist.runs.progress import BESIDE, Event, ProgressCallback
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE
from ungan_dist.runs.views import list_views, split_place

STATUS_FILE = "status.json"
STATUS_INTERVAL_S = 5.0
"""Least time between two writes of progress; each write waits for the disk."""


class RunState(StrEnum):
    """The state of a run, as every command prints it."""

    RUNNING = "RUNNING"
    """A driver works on it."""
    COMPLETE = "COMPLETE"
    WITH_FAILURES = "COMPLETE WITH FAILURES"
    """Everything else is complete; what failed would fail again."""
    PARTIAL = "PARTIAL"
    """Stopped early; the same command continues it."""
    FAILED = "FAILED"
    """Stopped by an internal error."""
    REFUSED = "REFUSED"
    """The config or the input was wrong."""
    CORRUPT = "CORRUPT"
    """Files differ from what was committed, or a purge was cut short."""
    PURGED = "PURGED"

    @property
    def exit_code(self) -> int:
        """The exit code of a command that found this state."""
        if self in (RunState.COMPLETE, RunState.PURGED):
            return 0
        if self in (RunState.RUNNING, RunState.PARTIAL):
            return 3
        if self is RunState.WITH_FAILURES:
            return 4
        return 2 if self is RunState.REFUSED else 1


@dataclass(frozen=True, kw_only=True)
class Status:
    """Last status written by the run's driver."""

    state: RunState
    """Any but ``CORRUPT`` and ``PURGED``."""
    host: str = ""
    pid: int = 0
    time: float = 0.0
    """Seconds since 1970."""
    missing: list[str] = field(default_factory=list)
    """Titles of the units that a partial run lacks."""
    failed: list[str] = field(default_factory=list)
    """What failed and would fail again, with the reasons."""
    error: str = ""
    progress: Event | None = None
    """Latest progress of a run that is not complete."""
    progress_time: float = 0.0
    """Seconds since 1970 at which the progress was written."""

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time left in the stage, from the latest progress and the time since."""
        if self.progress is None or self.progress.seconds_left is None:
            return None
        return max(0.0, self.progress.seconds_left - (time.time() - self.progress_time))


def write_status(
    folder: Path, state: str, *, missing: Sequence[str] = (), failed: Sequence[str] = (), error: str = ""
) -> None:
    """Write a run's status unless the same final status is already there; errors of the disk are ignored."""
    before = read_status(folder)
    if (
        before
        and state == before.state != "RUNNING"
        and (before.missing, before.failed, before.error)
        == (
            [*missing],
            [*failed],
            error,
        )
    ):
        return
    was_running = before is not None and before.state is RunState.RUNNING
    last = (
        before if was_running and state not in (RunState.RUNNING, RunState.COMPLETE, RunState.WITH_FAILURES) else None
    )
    status = Status(
        state=RunState(state),
        host=platform.node(),
        pid=os.getpid(),
        time=time.time(),
        missing=[*missing],
        failed=[*failed],
        error=error,
        progress=last.progress if last else None,
        progress_time=last.progress_time if last else 0.0,
    )
    with contextlib.suppress(OSError):
        store.write_record(folder / STATUS_FILE, asdict(status))


def clear_reasons(folder: Path) -> None:
    """Remove the texts of errors from a run's status, because they may name examples; a damaged status is deleted."""
    path = folder / STATUS_FILE
    if path.is_file() and not path.is_symlink():
        status = read_status(folder)
        if status is None:
            path.unlink()
        elif status.error or status.failed:
            store.write_record(path, asdict(replace(status, error="", failed=[])))


def record_progress(folder: Path, on_progress: ProgressCallback) -> ProgressCallback:
    """Wrap a callback so that progress is also written to the run's status, at once when a stage begins or ends."""
    written, stage = -math.inf, ""

    def record(event: Event) -> None:
        nonlocal written, stage
        on_progress(event)
        now = time.monotonic()
        is_step = event.stage == stage and event.done < event.total
        if not event.total or event.stage in BESIDE or (is_step and now - written < STATUS_INTERVAL_S):
            return
        written, stage = now, event.stage
        status = read_status(folder)
        if status is not None and status.state is RunState.RUNNING:
            status = replace(status, progress=event, progress_time=time.time())
            with contextlib.suppress(OSError):
                store.write_record(folder / STATUS_FILE, asdict(status))

    return record


def read_status(folder: Path) -> Status | None:
    """Read the status of a run folder; ``None`` if there is none or it is damaged."""
    try:
        values = store.read_record(folder / STATUS_FILE, unhashed=("state",), optional=_FIELDS)
        event = values.pop("progress", None)
        state = RunState(values.pop("state"))
        missing = [*map(str, values.pop("missing", []))]
        failed = [*map(str, values.pop("failed", []))]
        progress = None if event is None else Event(**event)
        return Status(state=state, missing=missing, failed=failed, progress=progress, **values)
    except (OSError, store.CorruptResult, ValueError, TypeError, AttributeError, KeyError):
        return None


_FIELDS = tuple(item.name for item in fields(Status))


def current_state(folder: Path) -> RunState:
    """Determine the state of a run, or of a view, from its folder: its last status, unless its driver died since."""
    run, place = split_place(folder)
    if (run / PURGED_FILE).is_file() and not (run / PURGING_FILE).is_file():
        return RunState.PURGED
    status = read_status(folder)
    if store.is_locked(run) and _is_driven(run, place, status):
        return RunState.RUNNING
    if (run / PURGING_FILE).is_file():
        return RunState.CORRUPT
    if status is None and os.path.lexists(folder / STATUS_FILE):
        return RunState.CORRUPT
    if status is None or (status.state is RunState.RUNNING and is_driver_dead(folder, status)):
        return RunState.PARTIAL
    return status.state


def _is_driven(run: Path, place: str, status: Status | None) -> bool:
    """Return whether the driver of a locked run works on one of its reports; it writes RUNNING for that one alone."""
    if place or (status is not None and status.state is RunState.RUNNING):
        return status is not None and status.state is RunState.RUNNING
    others = (read_status(run / view) for view in list_views(run))
    return all(other is None or other.state is not RunState.RUNNING for other in others)


def stop_others(run: Path, place: str) -> None:
    """End the RUNNING states that dead drivers left in a run's other reports; call it with the lock of the run."""
    for folder in (run, *(run / view for view in list_views(run))):
        status = read_status(folder)
        if folder != run / place and status is not None and status.state is RunState.RUNNING:
            with contextlib.suppress(OSError):
                store.write_record(folder / STATUS_FILE, asdict(replace(status, state=RunState.PARTIAL)))


def is_driver_dead(folder: Path, status: Status) -> bool:
    """Return whether the driver that wrote a status is known to be gone; unknown on another machine."""
    if status.host != platform.node():
        return False
    folder, _ = split_place(folder)
    if (folder / ".lock").exists():
        return not store.is_locked(folder)
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


_INTERRUPTIONS: dict[type[BaseException], str] = {
    KeyboardInterrupt: "interrupted by Ctrl-C",
    Terminated: "stopped by SIGTERM",
}


@contextlib.contextmanager
def record_failure(folder: Path) -> Iterator[None]:
    """Write the reason to the run's status when the driver fails or is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        write_status(folder, RunState.PARTIAL, error=_INTERRUPTIONS.get(type(error), type(error).__name__))
        raise
    except Exception as error:
        states = {2: RunState.REFUSED, 3: RunState.PARTIAL}
        state = states.get(getattr(error, "exit_code", 1), RunState.FAILED)
        write_status(folder, state, error=str(error) or type(error).__name__)
        raise
