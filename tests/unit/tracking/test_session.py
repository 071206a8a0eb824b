"""A tracker receives every curve once, and the verdicts; a tracker that raises costs the audit nothing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess, assert_refused, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist import Event, audit, store
from ungan_dist.attack.evidence import Report
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.progress import silent

pytestmark = pytest.mark.usefixtures("without_figures")
UNGAN = "ungan/seed 0/critic"


class Recorder:
    """Keeps what it receives, or raises in one of its methods."""

    name = "recorder"

    def __init__(self, raises_in: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._raises_in = raises_in

    def _call(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] == self._raises_in:
            raise ConnectionError("the server is gone")

    def start(self, folder: Path, config: Mapping[str, Any], state: str) -> str:
        self._call("start", folder, config, state)
        return "an id"

    def log_curve(self, name: str, values: Sequence[float]) -> None:
        self._call("log_curve", name, list(values))

    def log_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        self._call("log_numbers", dict(numbers), step)

    def log_texts(self, texts: Mapping[str, str]) -> None:
        self._call("log_texts", dict(texts))

    def log_report(self, files: Mapping[str, bytes]) -> None:
        self._call("log_report", dict(files))

    def finish(self) -> None:
        self._call("finish")

    def received(self, method: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == method]


@pytest.fixture
def without_targets(output: Path) -> Path:
    """The finished run without Retrain and UnGAN, as if it was interrupted before them."""
    for method in ("retrain", "ungan"):
        (output / f"run/results/0/{method}.json").unlink()
    return output


def audited(
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    tracker: Recorder,
    *,
    on_progress: Callable[[Event], None] = silent,
    interrupted_after: int = 1000,
) -> Report:
    execute = InProcess(interrupted_after)
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: execute(units))
    return audit(small_config(output), on_progress=on_progress, tracker=tracker)


def list_curves(report: Report) -> dict[str, list[float]]:
    return {
        f"{item.method}/seed {item.seed}/{loss}": values
        for item in report.evidence
        for loss, values in item.curves.items()
    }


def test_an_interrupted_run_sends_each_curve_once(without_targets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = Recorder(), Recorder(), Recorder()
    with pytest.raises(KeyboardInterrupt):
        audited(without_targets, monkeypatch, first, interrupted_after=1)
    assert [name.split("/")[0] for name, _ in first.received("log_curve")] == ["retrain"]
    assert [call[0] for call in first.calls[:2]] == ["start", "log_curve"], "at once, not at the end"
    assert first.calls[-1] == ("finish",)
    report = audited(without_targets, monkeypatch, second)
    sent = [*first.received("log_curve"), *second.received("log_curve")]
    assert dict(sent) == list_curves(report)
    assert len(sent) == len(dict(sent))
    assert second.received("start")[0][2] == "an id"
    assert first.received("start")[0][2] == ""
    audited(without_targets, monkeypatch, third)
    assert third.calls == [], "nothing is new"


def test_the_report_is_sent_with_its_numbers_and_without_pictures(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Recorder()
    report = audited(output, monkeypatch, tracker)
    [(numbers, step)] = tracker.received("log_numbers")
    rows = {row.method: row for row in report.rows}
    assert step == 0
    assert numbers["auc/ungan"] == rows["ungan"].auc.mean
    assert numbers["auc_rmia/ungan"] == rows["ungan"].attacks["rmia"].auc.mean
    assert numbers["gap_low/ungan"] == rows["ungan"].verdict.gap.low
    assert "gap/retrain" not in numbers
    assert tracker.received("log_texts") == [({f"verdict/{name}": row.verdict.outcome for name, row in rows.items()},)]
    [(files,)] = tracker.received("log_report")
    page = (output / "run/report.html").read_bytes()
    assert b"data:image/png" in page
    assert b"data:image" not in files["report.html"]
    assert b"What may be concluded" in files["report.html"]
    assert files["table.json"] == (output / "run/table.json").read_bytes()
    [(folder, config, _)] = tracker.received("start")
    assert folder == output / "run"
    assert str(output) not in repr(config)


@pytest.mark.parametrize("method", ["start", "log_curve", "log_numbers", "log_report", "finish"])
def test_a_tracker_that_raises_ends_no_audit(output: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    events: list[Event] = []
    raising, after = Recorder(raises_in=method), Recorder()
    report = audited(output, monkeypatch, raising, on_progress=events.append)
    assert report.status == "COMPLETE"
    [warning] = [event for event in events if event.is_warning and event.stage == "tracking"]
    assert "ConnectionError('the server is gone')" in warning.note
    assert [call[0] for call in raising.calls].count(method) == 1, "it is not called again"
    assert raising.calls[-1][0] == method
    audited(output, monkeypatch, after)
    sent = [name for name, _ in after.received("log_curve")]
    if method in ("start", "log_curve"):
        assert set(sent) == set(list_curves(report))
    assert len(after.received("log_report")) == (method != "finish")


def test_events_have_the_kind_of_the_unit(without_targets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next(iter(without_targets.glob("shadows/*.json"))).unlink()
    events: list[Event] = []
    audited(without_targets, monkeypatch, Recorder(), on_progress=events.append)
    found = {(event.stage, event.kind) for event in events if event.kind}
    assert found == {("original, shadows", "shadow models"), ("unlearning", "unlearning")}
    last = [event for event in events if event.stage == "unlearning"][-1]
    assert (last.done, last.total, last.note) == (2, 2, "ungan, seed 0")


def test_a_report_that_grows_is_sent_again_with_the_next_step(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, grown = Recorder(), Recorder()
    audited(output, monkeypatch, tracker)
    execute = InProcess()
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: execute(units))
    methods = ("original", "retrain", "ungan", "fine_tuning")
    report = audit(small_config(output, methods=methods), on_progress=silent, tracker=grown)
    assert [step for _, step in grown.received("log_numbers")] == [1]
    assert {name.split("/")[0] for name, _ in grown.received("log_curve")} == {"fine_tuning"}
    # the smaller report has a place of its own now
    small = audited(output, monkeypatch, again := Recorder())
    assert small.folder != report.folder
    [(numbers, step)] = again.received("log_numbers")
    assert step == 0
    assert all(name.startswith("reports/4-shadows-1-seed-") for name in numbers)


def test_a_purge_removes_what_was_tracked_in_the_run(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audited(output, monkeypatch, Recorder())
    store.write_file(output / "run/tensorboard/events.out.tfevents.1", b"x")
    assert run_command("purge", output / "run").returncode == 0
    assert not (output / "run/tracking.json").exists()
    assert not (output / "run/tensorboard").exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_library_is_named_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delitem(sys.modules, f"ungan_dist.tracking.{name}", raising=False)
    for module in ("torch.utils.tensorboard", "mlflow", "mlflow.entities", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    done = run_command("run", "digits", *SMALL_OPTIONS, "--output", tmp_path / "out", "--tracking", name)
    assert_refused(done, f"--tracking {name}", f"pip install 'ungan-dist[{name}]'")
    assert not (tmp_path / "out").exists()


@pytest.mark.process
def test_no_tracker_is_imported_unless_asked() -> None:
    code = (
        "import sys, ungan_dist.launch, ungan_dist.tracking.session, ungan_dist.tracking.tracker;"
        "sys.exit(any(name in sys.modules for name in ('tensorboard', 'mlflow', 'wandb', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tracker_does_not_decide_the_run() -> None:
    from ungan_dist.config.identity import run_hash

    config = small_config(Path("out"))
    assert run_hash(dataclasses.replace(config, tracking="mlflow"), "data") == run_hash(config, "data")
