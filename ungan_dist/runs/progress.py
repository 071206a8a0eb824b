"""Progress events of a run, shown live on a terminal, or written as plain lines or as JSON lines."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

EVIDENCE_S = 3.0
"""Least seconds of a stage from which its pace is estimated."""
BESIDE = ("workers", "trainer")
"""Stages that count workers or their units while a stage of the run goes on."""
LINE_INTERVAL_S = 5.0
"""Least seconds between two plain lines of one stage."""
WITHIN_INTERVAL_S = 5.0
"""Least seconds between two events of a stage in which no step was completed."""
SIGN_OF_LIFE_S = 60.0
"""Seconds without a plain line of a stage after which its progress within units is written."""


Kind = Literal["", "original", "shadow models", "unlearning", "unlearned shadow models"]
"""What a unit of work trains; empty for events that are about no unit."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Progress within a stage of a run, such as ``shadows`` or ``unlearning``.

    Examples:
        >>> event = Event(stage="unlearning", done=3, total=9, seconds=60.0, seconds_left=120.0, kind="unlearning")
        >>> f"{event.stage}: {event.done / event.total:.0%}, {event.seconds_left:.0f} s left"
        'unlearning: 33%, 120 s left'
    """

    stage: str
    done: int
    """Steps so far. In the main stages, a step is a model."""
    total: int
    """Steps of the stage; 0 for a remark, which has a note alone."""
    seconds: float
    """Time since the stage began."""
    seconds_left: float | None
    """Estimate from the stage's pace; ``None`` before the first step and in the first ``EVIDENCE_S``."""
    note: str = ""
    per_hour: float | None = None
    """Steps per hour at that pace; a step is a model in the main stages."""
    within: bool = False
    """Whether a unit in work reported it, between two steps or between two units."""
    is_warning: bool = False
    """Whether the note is shown even where progress is not."""
    kind: Kind = ""
    """Kind of the unit that was finished, failed or is in work; the note names the unit."""


ProgressCallback = Callable[[Event], None]


class Stage:
    """Count a stage's steps and report each as an event."""

    def __init__(self, name: str, total: int, on_progress: ProgressCallback, *, done: int = 0) -> None:
        self._name, self._total, self._on_progress = name, total, on_progress
        self._done = self._before = done
        self._within: dict[str, float] = {}
        self._start = self._last_event = time.monotonic()
        self.advance(0)

    def advance(self, steps: int = 1, note: str = "", *, unit: str = "", kind: Kind = "") -> None:
        """Count steps and report them; progress within the unit is replaced by them."""
        self._within.pop(unit, None)
        self._done += steps
        self._report(note, kind=kind)

    def advance_within(self, unit: str, steps: float, note: str, *, kind: Kind = "") -> None:
        """Count the steps, and the part of a step, that a unit in work has done so far; report them now and then."""
        before = int(self._within.get(unit, 0))
        self._within[unit] = steps
        if int(steps) != before or time.monotonic() - self._last_event >= WITHIN_INTERVAL_S:
            self._report(note, is_within=True, kind=kind)

    def _report(self, note: str, *, is_within: bool = False, kind: Kind = "") -> None:
        self._last_event = time.monotonic()
        seconds = self._last_event - self._start
        fresh = self._done - self._before + sum(self._within.values())
        is_known = fresh > 0 and seconds >= EVIDENCE_S
        left = seconds / fresh * (self._total - self._before - fresh) if is_known else None
        per_hour = fresh / seconds * 3600 if is_known else None
        self._on_progress(
            Event(
                stage=self._name,
                done=self._done + sum(map(int, self._within.values())),
                total=self._total,
                seconds=seconds,
                seconds_left=left,
                note=note,
                per_hour=per_hour,
                within=is_within,
                kind=kind,
            )
        )


def remark(stage: str, note: str, *, is_warning: bool = False) -> Event:
    """Create an event with a note and no steps."""
    return Event(stage=stage, done=0, total=0, seconds=0.0, seconds_left=None, note=note, is_warning=is_warning)


def silent(event: Event) -> None:
    """Ignore an event."""
    del event


def _warn(event: Event) -> None:
    if event.is_warning:
        print(f"ungan-dist: warning: {describe_event(event)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(kind: Literal["auto", "rich", "plain", "json", "none"]) -> Iterator[ProgressCallback]:
    """Yield a callback that shows events on standard error.

    Args:
        kind: ``rich`` is a live display, ``plain`` a few lines per stage, ``json`` one JSON object per event. ``auto``
            is ``rich`` on a terminal or in a notebook, else ``plain``. ``none`` shows warnings alone.
    """
    if kind == "none":
        yield _warn
    elif kind == "json":
        yield _json_line
    elif kind == "plain" or (kind == "auto" and not _can_redraw()):
        yield PlainLines()
    else:
        with _live() as on_progress:
            yield on_progress


def _can_redraw() -> bool:
    """Whether lines can be drawn again: on a terminal, or in a notebook with widgets."""
    if sys.stderr.isatty():
        return os.environ.get("TERM") not in ("dumb", "unknown")
    if "ipykernel" not in sys.modules or importlib.util.find_spec("ipywidgets") is None:
        return False
    from rich.console import Console

    return Console().is_jupyter


class PlainLines:
    """Write a few lines per stage: its start, some of its tenths, its end, and every remark."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._tenth: dict[str, int] = {}
        self._written: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        before = self._done.get(event.stage)
        self._done[event.stage] = event.done
        is_remark = bool(event.note) and not event.within and event.done <= (before or 0)
        is_lower = before is not None and event.done < before and not event.within
        if not event.total or is_remark or before is None or is_lower or self._is_due(event):
            self._written[event.stage] = time.monotonic()
            self._tenth[event.stage] = _tenth_of(event)
            print(describe_event(event, with_note=is_remark or event.within), file=sys.stderr, flush=True)

    def _is_due(self, event: Event) -> bool:
        if event.done == event.total:
            return self._tenth[event.stage] < 10
        waited = time.monotonic() - self._written[event.stage]
        is_next = waited >= LINE_INTERVAL_S and _tenth_of(event) > self._tenth[event.stage]
        return is_next or (event.within and waited >= SIGN_OF_LIFE_S)


def _tenth_of(event: Event) -> int:
    return int(10 * event.done / event.total) if event.total else 0


def describe_event(event: Event, *, with_note: bool = True) -> str:
    """Describe an event in one line.

    >>> describe_event(Event(stage="unlearning", done=3, total=9, seconds=60.0, seconds_left=120.0))
    'unlearning: 3 of 9, about 2:00 left'
    """
    note = " ".join(event.note.split())
    if not event.total:
        return f"{event.stage}: {note}"
    text = f"{event.stage}: {event.done} of {event.total}"
    if event.done >= event.total:
        text += f" in {clock(event.seconds)}" if event.seconds >= 1 else ""
    elif event.seconds_left is not None:
        text += f", about {clock(event.seconds_left)} left"
    return f"{text}; {note}" if note and with_note else text


def _json_line(event: Event) -> None:
    values = asdict(event)
    del values["is_warning"]
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
        TextColumn("{task.fields[note]}", style="dim", markup=False),
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
            left = "" if finished else "time left: not known yet"
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
