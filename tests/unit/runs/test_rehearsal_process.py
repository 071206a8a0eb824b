"""A rehearsal runs in a process of its own: a model that ends or blocks it costs one sentence and no traceback."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.config.training import ModelConfig
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.progress import Event
from ungan_dist.runs.rehearsal import process
from ungan_dist.training import probing
from ungan_dist.worker_process import run_in_process


@pytest.mark.process
@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("Leaving", "ended with exit code 0"),
        ("Killed", "was killed (SIGKILL, often for lack of memory)"),
        ("Crashing", "crashed (SIGSEGV)"),
    ],
)
def test_a_model_that_ends_its_process_is_refused(
    factory: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = small_config(tmp_path / "out", model=ModelConfig(factory=f"misbehaving_models:{factory}"))
    with pytest.raises(ConfigError) as refused:
        audit(config)
    assert words in str(refused.value)
    assert "evaluating examples" in str(refused.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.process
def test_a_model_that_hangs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path / "out", model=ModelConfig(factory="misbehaving_models:Hanging"))
    monkeypatch.setattr(process, "SILENCE_S", 1.0)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"did not go on within 1 s, at: evaluating examples.*too slow"):
        audit(config)
    assert time.monotonic() - start < 60


@pytest.mark.process
@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("ends_when_built", "the process ended with exit code 0"),
        ("kills_when_built", "the process was killed (SIGKILL, often for lack of memory)"),
        ("hangs_when_built", "was not built within 8 s"),
    ],
)
def test_a_factory_that_ends_or_blocks_its_process_is_refused(
    command: str, factory: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "run_in_process", run_in_process)
    if factory == "hangs_when_built":
        monkeypatch.setattr(probing, "BUILD_LIMIT_S", 8.0)
    options = [*SMALL_OPTIONS, "--model.factory", f"misbehaving_models:{factory}", "--output", tmp_path / "out"]
    assert_refused(run_command(command, "digits", *options), factory, words)
    assert not (tmp_path / "out").exists()


class Recording:
    """Calls functions at once, and records the calls."""

    def __init__(self, result: process.Findings | Exception) -> None:
        self.result, self.calls = result, 0

    def __call__(self, function: object, rehearsal: object) -> process.Findings:
        assert function is process.rehearse_in_process
        assert isinstance(rehearsal, process.Rehearsal)
        self.calls += 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def test_notes_are_progress_and_a_busy_cluster_is_no_error_of_the_model(tmp_path: Path) -> None:
    plan = make_plan(small_config(tmp_path, model=ModelConfig(factory="misbehaving_models:Net")))
    events: list[Event] = []
    notes = process.rehearse(plan, Recording(process.Findings(notes=("one", "two"), summary="tried")), events.append)
    assert notes == ("one", "two")
    assert [event.note for event in events] == ["every step of the run is tried on a few examples", *notes, "tried"]
    assert [event.is_warning for event in events] == [False, True, True, False]
    assert {event.stage for event in events} == {"rehearsal"}
    with pytest.raises(ConfigError, match="leave that out"):
        process.rehearse(plan, Recording(process.Findings(error="leave that out")))
    with pytest.raises(Unfinished, match="other jobs may hold the cluster"):
        process.rehearse(plan, Recording(TimeoutError()))


def test_built_in_models_and_finished_runs_are_not_rehearsed(output: Path) -> None:
    run_once = Recording(process.Findings())
    plan = make_plan(small_config(output))
    process.rehearse(plan, run_once)  # finished
    fresh = make_plan(small_config(output / "fresh"))
    process.rehearse(fresh, run_once)  # built in
    own = dataclasses.replace(plan.record.config, model=ModelConfig(factory="misbehaving_models:Net"))
    record = dataclasses.replace(plan.record, config=own)
    process.rehearse(dataclasses.replace(plan, record=record), run_once)  # finished, with a user's model
    assert run_once.calls == 0
    process.rehearse(dataclasses.replace(fresh, record=record), run_once)
    assert run_once.calls == 1


def test_the_examples_of_a_rehearsal_come_from_every_set(tmp_path: Path) -> None:
    plan = make_plan(small_config(tmp_path, model=ModelConfig(factory="misbehaving_models:Net")))
    rehearsal = process.make_rehearsal(plan)
    draw = plan.draws[0]
    whole = {
        "forget": plan.split.pool[draw.forget],
        "retain": plan.split.pool[draw.retain],
        "unseen": plan.split.unseen,
    }
    for name, indices in whole.items():
        for place in rehearsal.sets[name]:
            same = (plan.source.images[indices] == rehearsal.images[place]).all(axis=(1, 2, 3))
            assert rehearsal.labels[place] in plan.source.labels[indices][same]
    assert len(rehearsal.images) <= 512
    assert rehearsal.set_sizes["forget"] == len(draw.forget)
