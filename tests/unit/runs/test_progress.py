"""Progress of a run: plain lines, JSON lines, a live display, and a status with the last step."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ungan_dist.commands.status import main as status_command
from ungan_dist.runs.progress import Event, Stage, progress, remark, silent
from ungan_dist.runs.progress import clock as write_clock
from ungan_dist.runs.status import read_status, record_failure, record_progress, write_status


def test_json_lines_keep_unicode_and_notes_have_no_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("json") as on_progress:
        on_progress(remark("plan", "δ ≥ 0.05 ± 0.01"))
        Stage("shadows", 4, on_progress).advance()
    words, *steps = capsys.readouterr().err.splitlines()
    assert "δ ≥ 0.05 ± 0.01" in words
    assert json.loads(words) == {"stage": "plan", "note": "δ ≥ 0.05 ± 0.01"}
    assert [(json.loads(step)["done"], json.loads(step)["total"]) for step in steps] == [(0, 4), (1, 4)]


class Clock:
    """Time that passes when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("ungan_dist.runs.progress.time.monotonic", lambda: self.now)


@pytest.mark.parametrize("seconds_a_step", [0.001, 0.1, 1.0, 60.0])
def test_plain_lines_are_a_few_a_stage(
    seconds_a_step: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with progress("auto") as on_progress:  # standard error is no terminal here
        on_progress(remark("plan", "δ ≥ 0.05"))
        stage = Stage("shadows", 200, on_progress)
        for _ in range(200):
            clock.now += seconds_a_step
            stage.advance(note="shadow models 0–1")
    remarked, start, *tenths, end = capsys.readouterr().err.splitlines()
    assert (remarked, start) == ("plan: δ ≥ 0.05", "shadows: 0 of 200")
    total = 200 * seconds_a_step
    assert end == "shadows: 200 of 200" + (f" in {write_clock(total)}" if total >= 1 else "")
    assert len(tenths) <= 9
    assert (len(tenths) > 3) == (seconds_a_step >= 1)
    for line in tenths:  # an exact pace has an exact time left
        done, left = re.fullmatch(r"shadows: (\d+) of 200, about ([\d:]+) left", line).groups()  # type: ignore[union-attr]
        assert left == write_clock(seconds_a_step * (200 - int(done)))


def test_there_is_no_rate_and_no_time_left_without_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    events: list[Event] = []
    stage = Stage("scoring", 100, events.append)
    for now, steps in ((0.1, 10), (2.9, 20), (3.0, 1), (60.0, 9)):
        clock.now = now
        stage.advance(steps)
    assert [(event.seconds_left, event.per_hour) for event in events[:3]] == [(None, None)] * 3
    assert [event.seconds_left for event in events[3:]] == pytest.approx([3.0 / 31 * 69, 60 / 40 * 60])
    assert [event.per_hour for event in events[3:]] == pytest.approx([31 * 1200, 40 * 60])


def test_a_failed_unit_and_a_new_note_are_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("plain") as on_progress:
        stage = Stage("unlearning", 4, on_progress, done=1)
        stage.advance(0, note="failed: ungan,\nseed 0")
        stage.advance(3)
        Stage("scoring", 3, on_progress, done=3)
    assert capsys.readouterr().err.splitlines() == [
        "unlearning: 1 of 4",
        "unlearning: 1 of 4; failed: ungan, seed 0",
        "unlearning: 4 of 4",
        "scoring: 3 of 3",
    ]


def test_progress_moves_within_a_unit_and_a_lost_unit_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    events: list[Event] = []
    stage = Stage("shadows", 8, events.append, done=2)
    for now, models in ((10.0, 0.5), (11.0, 0.6), (20.0, 1.0), (30.0, 1.5)):
        clock.now = now
        stage.advance_within("unit", models, f"{models} models")
    assert [(event.done, event.note, event.within) for event in events] == [
        (2, "", False),
        (2, "0.5 models", True),
        (3, "1.0 models", True),
        (3, "1.5 models", True),
    ]
    # half a model in ten seconds, of six that were left at the start
    assert [event.seconds_left for event in events[1:]] == pytest.approx([110.0, 100.0, 90.0])
    clock.now = 40.0
    stage.advance(2, unit="unit")
    stage.advance_within("other", 1.0, "")
    stage.advance(0, note="failed", unit="other")
    assert [event.done for event in events[-3:]] == [4, 5, 4]


def test_a_slow_unit_gives_a_plain_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with progress("plain") as on_progress:
        stage = Stage("shadows", 16, on_progress)
        for second in range(1, 601):
            clock.now = float(second)
            stage.advance_within("unit", second / 600, f"shadow model 0: epoch {second} of 600")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[1] == "shadows: 0 of 16, about 2:39:00 left; shadow model 0: epoch 60 of 600"


def test_the_live_display_labels_its_times(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("rich") as on_progress:
        stage = Stage("shadows", 4, on_progress)
        stage.advance()
    shown = " ".join(capsys.readouterr().err.split())
    assert "elapsed" in shown
    assert "left" in shown


def event(done: int, left: float | None) -> Event:
    return Event(stage="unlearning", done=done, total=9, seconds=60.0, seconds_left=left)


def test_status_of_an_active_run_has_its_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(tmp_path, "RUNNING")
    on_progress = record_progress(tmp_path, silent)
    on_progress(remark("plan", "words"))
    on_progress(event(3, 125.0))
    assert status_command([str(tmp_path)]) == 3
    assert "unlearning: 3 of 9 done, about 2:05 left in this stage" in capsys.readouterr().out
    on_progress(event(4, 100.0))  # too soon after the last write
    status = read_status(tmp_path)
    assert status is not None
    assert status.progress == event(3, 125.0)
    on_progress(event(9, None))
    status_command([str(tmp_path)])
    assert "unlearning: 9 of 9 done\n" in capsys.readouterr().out
    on_progress(Event(stage="workers", done=2, total=4, seconds=0.0, seconds_left=None, note="1 retry"))
    on_progress(Event(stage="scoring", done=0, total=3, seconds=0.0, seconds_left=None))  # at once: a new stage
    status_command([str(tmp_path)])
    assert "scoring: 0 of 3 done\n" in capsys.readouterr().out
    on_progress(replace(event(3, 125.0), stage="another", note="ungan, seed 0: epoch 3 of 8", within=True))
    status_command([str(tmp_path)])
    assert "another: 3 of 9 done, about 2:05 left in this stage; ungan, seed 0: epoch 3 of 8" in capsys.readouterr().out
    write_status(tmp_path, "COMPLETE")
    on_progress(event(9, None))
    status = read_status(tmp_path)
    assert status is not None
    assert (status.state, status.progress) == ("COMPLETE", None)


def test_the_time_left_shrinks_while_no_event_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_status(tmp_path, "RUNNING")
    record_progress(tmp_path, silent)(event(3, 125.0))
    written = time.time()
    for later, left in ((100.0, 25.0), (1000.0, 0.0)):
        monkeypatch.setattr("ungan_dist.runs.status.time.time", lambda later=later: written + later)
        status = read_status(tmp_path)
        assert status is not None
        assert status.seconds_left == pytest.approx(left, abs=1)


def test_a_stopped_run_keeps_its_stage_and_a_new_driver_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_status(tmp_path, "RUNNING")
    record_progress(tmp_path, silent)(event(3, 125.0))
    with pytest.raises(KeyboardInterrupt), record_failure(tmp_path):
        raise KeyboardInterrupt
    assert status_command([str(tmp_path)]) == 3
    assert "stopped in stage unlearning: 3 of 9 done\n  interrupted by Ctrl-C\n" in capsys.readouterr().out
    write_status(tmp_path, "RUNNING")
    status = read_status(tmp_path)
    assert status is not None
    assert status.progress is None
