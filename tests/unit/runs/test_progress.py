"""Progress of a run: readable JSON lines, and a status with the last step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ungan_dist.commands.status import main as status_command
from ungan_dist.runs.progress import Event, Stage, progress, remark, silent
from ungan_dist.runs.status import read_status, record_progress, write_status


def test_json_lines_keep_unicode_and_notes_have_no_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("json") as on_progress:
        on_progress(remark("plan", "δ ≥ 0.05 ± 0.01"))
        Stage("shadows", 4, on_progress).advance()
    words, *steps = capsys.readouterr().err.splitlines()
    assert "δ ≥ 0.05 ± 0.01" in words
    assert json.loads(words) == {"stage": "plan", "note": "δ ≥ 0.05 ± 0.01"}
    assert [(json.loads(step)["done"], json.loads(step)["total"]) for step in steps] == [(0, 4), (1, 4)]


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
    write_status(tmp_path, "COMPLETE")
    on_progress(event(9, None))
    status = read_status(tmp_path)
    assert status is not None
    assert (status.state, status.progress) == ("COMPLETE", None)
