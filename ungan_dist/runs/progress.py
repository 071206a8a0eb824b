"""Progress events of a run, shown live on a terminal or written as JSON lines."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Event:
    """Progress within a stage."""

    stage: str
    done: int
    total: int
    seconds: float
    """Time since the stage began."""
    seconds_left: float | None
    """Estimate from the stage's pace; ``None`` before the first step."""
    note: str = ""
    per_hour: float | None = None
    """Steps per hour at that pace; a step is a model in the main stages."""


ProgressCallback = Callable[[Event], None]


class Stage:
    """Count a stage's steps and report each as an event."""

    def __init__(self, name: str, total: int, on_progress: ProgressCallback, *, done: int = 0) -> None:
        self._name, self._total, self._on_progress = name, total, on_progress
        self._done = self._before = done
        self._start = time.monotonic()
        self.advance(0)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        seconds = time.monotonic() - self._start
        fresh = self._done - self._before
        left = seconds / fresh * (self._total - self._done) if fresh else None
        per_hour = fresh / seconds * 3600 if fresh and seconds else None
        self._on_progress(
            Event(
                stage=self._name,
                done=self._done,
                total=self._total,
                seconds=seconds,
                seconds_left=left,
                note=note,
                per_hour=per_hour,
            )
        )


def remark(stage: str, note: str) -> Event:
    """Create an event with a note and no steps."""
    return Event(stage=stage, done=0, total=0, seconds=0.0, seconds_left=None, note=note)


def silent(event: Event) -> None:
    """Ignore an event."""
    del event


@contextlib.contextmanager
def progress(kind: Literal["auto", "rich", "json", "none"]) -> Iterator[ProgressCallback]:
    """Yield a callback that shows events live, writes them as JSON lines to standard error, or ignores them."""
    if kind == "none":
        yield silent
    elif kind == "json" or (kind == "auto" and not sys.stderr.isatty()):
        yield _json_line
    else:
        with _live() as on_progress:
            yield on_progress


def _json_line(event: Event) -> None:
    values = asdict(event)
    values["seconds"] = round(event.seconds, 1)
    values["seconds_left"] = None if event.seconds_left is None else round(event.seconds_left, 1)
    values["per_hour"] = None if event.per_hour is None else round(event.per_hour, 1)
    if not event.total:
        values = {"stage": event.stage, "note": event.note}
    print(json.dumps(values, ensure_ascii=False), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _live() -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("elapsed", style="dim"),
        TextColumn("{task.fields[left]}", style="dim"),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True)) as display:
        tasks = {}

        def on_progress(event: Event) -> None:
            if event.note and not event.total:
                display.console.print(f"{event.stage}: {event.note}", markup=False, highlight=False)
                return
            if event.stage not in tasks:
                tasks[event.stage] = display.add_task(event.stage, total=event.total, left="", note="")
            finished = event.done >= event.total
            left = "" if finished else "time left: known after the first"
            if event.seconds_left is not None and not finished:
                left = f"{clock(event.seconds_left)} left"
            if not finished and event.per_hour is not None:
                left += f", {event.per_hour:,.0f}/h"
            note = "" if finished else event.note
            display.update(tasks[event.stage], completed=event.done, total=event.total, left=left, note=note)

        yield on_progress


def clock(seconds: float) -> str:
    """Write seconds as hours, minutes and seconds.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
