"""How far a run has come: one small file in its folder, which outlives the process that wrote it."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from ungan_dist import store
from ungan_dist.runs.progress import Event, ProgressCallback

STATUS_FILE = "status.json"
STATUS_INTERVAL_S = 5.0
"""Between two steps that are written down; a write waits for the disk."""

State = Literal["RUNNING", "COMPLETE", "PARTIAL", "FAILED"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """The last word of the driver that worked on a run."""

    state: State
    host: str = ""
    pid: int = 0
    time: float = 0.0
    """Seconds since 1970."""
    missing: list[str] = field(default_factory=list)
    """What a partial run lacks, in words."""
    error: str = ""
    progress: Event | None = None
    """The driver's last step, while it is at work."""


def write_status(folder: Path, state: State, *, missing: list[str] | None = None, error: str = "") -> None:
    """Writes a run's status, unless it is final and says so already; a storage that refuses keeps the one before."""
    before = read_status(folder)
    if before and state == before.state != "RUNNING" and (before.missing, before.error) == (missing or [], error):
        return
    status = Status(
        state=state, host=platform.node(), pid=os.getpid(), time=time.time(), missing=missing or [], error=error
    )
    with contextlib.suppress(OSError):
        store.write_json(folder / STATUS_FILE, asdict(status))


def record_progress(folder: Path, on_progress: ProgressCallback) -> ProgressCallback:
    """Tells a run's steps on, and leaves the last one in its status for who asks from elsewhere."""
    written = -math.inf

    def told(event: Event) -> None:
        nonlocal written
        on_progress(event)
        now = time.monotonic()
        if not event.total or (now - written < STATUS_INTERVAL_S and event.done < event.total):
            return
        written = now
        status = read_status(folder)
        if status is not None and status.state == "RUNNING":
            with contextlib.suppress(OSError):
                store.write_json(folder / STATUS_FILE, asdict(replace(status, progress=event)))

    return told


def read_status(folder: Path) -> Status | None:
    """The status of a run folder; none where no driver has left one, or where it is damaged."""
    try:
        values = store.read_json(folder / STATUS_FILE)
        event = values.pop("progress", None)
        return Status(**values, progress=None if event is None else Event(**event))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def record_failure(folder: Path) -> Iterator[None]:
    """Leaves the reason behind when a driver fails or is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        write_status(folder, "PARTIAL", error=type(error).__name__)
        raise
    except Exception as error:
        resumable = getattr(error, "exit_code", 1) == 3
        write_status(folder, "PARTIAL" if resumable else "FAILED", error=str(error) or type(error).__name__)
        raise
