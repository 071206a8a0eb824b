"""``auto`` takes another engine than ``serial`` only where a measurement on the device of a run says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess
from small_audit import small_config

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.training import ModelConfig
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.forecast.engine_timing import EngineTask, EngineTiming, measure_engines, measure_in_process
from ungan_dist.runs.forecast.engines import choose_engine, list_engines, settle_engine
from ungan_dist.runs.operations import describe_engine
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import Plan, make_plan


def timing(engine: str, seconds: float | None, **facts: Any) -> EngineTiming:
    return EngineTiming(engine=engine, seconds=seconds, **facts)


SERIAL = timing("serial", 1.0)


@pytest.mark.parametrize(
    ("others", "engine", "words"),
    [
        ([timing("graph", 0.5), timing("branches", 0.4)], "branches", "branches is 2.50 times as fast"),
        ([timing("graph", 0.5), timing("branches", 0.4, difference=0.1)], "graph", "its weights differ by 0.1"),
        ([timing("graph", 0.5, difference=float("inf"))], "serial", "its weights differ by inf"),
        ([timing("graph", 0.95)], "serial", "no other engine is 1.1 times as fast: graph is 1.05 times"),
        ([timing("graph", None, reason="it reads a value")], "serial", "graph: it reads a value"),
        ([timing("graph", None, reason="the process was killed"), timing("stacked", 0.8)], "stacked", "was killed"),
    ],
)
def test_the_fastest_right_engine_is_taken(others: list[EngineTiming], engine: str, words: str) -> None:
    choice = choose_engine([SERIAL, *others])
    assert choice.engine == engine
    assert words in choice.reason


def test_the_memory_of_the_chosen_engine_decides_how_many_units_share_a_gpu() -> None:
    gib = 2**30
    memory = {"memory_bytes": 10 * gib, "free_bytes": 40 * gib}
    timings = [dataclasses.replace(SERIAL, **memory), timing("graph", 0.5, memory_bytes=20 * gib, free_bytes=40 * gib)]
    assert choose_engine(timings, cores=16).units_per_gpu == 1
    assert choose_engine(timings[:1], cores=16).units_per_gpu == 3
    assert choose_engine(timings[:1], asked="serial", cores=2).units_per_gpu == 2
    assert choose_engine([SERIAL], cores=16).units_per_gpu == 1


def with_model(output: Path, factory: str | None = None) -> AuditConfig:
    return small_config(output, model=ModelConfig(width=4, factory=factory))


def measured_here(folder: Path, seen: list[list[EngineTiming]]) -> Callable[..., Any]:
    """Measure in the test's own process."""

    def run_once(function: object, task: EngineTask) -> list[EngineTiming]:
        assert function is measure_in_process
        folder.mkdir()
        seen.append(measure_engines(task, folder))
        return seen[-1]

    return run_once


def test_a_run_keeps_what_was_measured_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[EngineTiming]] = []
    run_once = measured_here(tmp_path / "probe", seen)

    def settle(plan: Plan) -> Plan:
        return settle_engine(plan, run_once, engines=("serial", "graph"))

    with open_run(with_model(tmp_path / "out"), settle=settle) as plan:
        first = plan
    ((serial, graph),) = seen
    assert serial.seconds is not None
    assert graph.seconds is not None
    assert graph.difference < 1e-4
    resolved = first.record.resolved
    assert resolved["engine"] == ("graph" if serial.seconds >= 1.1 * graph.seconds else "serial")
    ratio = f"graph is {serial.seconds / graph.seconds:.2f} times as fast as serial"
    assert ratio in resolved["engine_choice"]["reason"]
    assert ratio in describe_engine(first.record)
    # the second time nothing is measured; run_once would make its folder anew, which fails
    with open_run(with_model(tmp_path / "out"), settle=settle) as plan:
        assert plan.record.resolved == resolved
        assert [unit.id for unit in plan.shadows] == [unit.id for unit in first.shadows]
        assert [unit.id for unit in plan.targets] == [unit.id for unit in first.targets]


def test_a_choice_changes_the_units_and_its_words_do_not(tmp_path: Path) -> None:
    plan = make_plan(with_model(tmp_path))

    def chosen(seconds: float, unit_bytes: int = 0) -> Plan:
        timings = [SERIAL, timing("graph", seconds, memory_bytes=unit_bytes, free_bytes=2**36)]
        return settle_engine(plan, lambda *_: timings, engines=("serial", "graph"))

    plain, slow, fast, faster = plan, chosen(2.0), chosen(0.5), chosen(0.4, 2**30)
    ids = [[unit.id for unit in (*one.targets, *one.shadows)] for one in (plain, slow, fast, faster)]
    assert ids[0] == ids[1]
    assert ids[2] == ids[3]
    assert not set(ids[1]) & set(ids[2])
    assert {unit.engine for unit in fast.targets} == {unit.engine for unit in fast.shadows} == {"graph"}


def test_a_model_that_cannot_be_captured_trains_step_by_step(tmp_path: Path) -> None:
    plan = make_plan(with_model(tmp_path / "out", "misbehaving_models:ReadsWeights"))
    notes: list[str] = []
    plan = settle_engine(
        plan,
        measured_here(tmp_path / "probe", []),
        lambda event: notes.append(event.note),
        engines=("serial", "graph", "branches"),
    )
    assert plan.record.resolved["engine"] == "serial"
    reason = plan.record.resolved["engine_choice"]["reason"]
    assert "graph: the training step cannot be captured: it reads a tensor's value on the host" in reason
    assert "misbehaving_models.py line" in reason
    assert notes[-1] == reason


def test_nothing_is_measured_on_a_cpu_or_for_data_parallel_models(tmp_path: Path) -> None:
    plan = make_plan(with_model(tmp_path))
    assert list_engines(plan) == ()
    assert "nothing is gained on a CPU" in describe_engine(plan.record)
    record = dataclasses.replace(plan.record, resolved=plan.record.resolved | {"device": "cuda"})
    assert list_engines(dataclasses.replace(plan, record=record)) == ("serial", "graph", "branches", "stacked")


@pytest.mark.process
def test_a_crash_of_an_engine_is_a_reason_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = make_plan(with_model(tmp_path / "out", "misbehaving_models:DiesWhenCaptured"))
    plan = settle_engine(plan, engines=("serial", "graph"))
    assert plan.record.resolved["engine"] == "serial"
    assert "graph: the process was killed" in plan.record.resolved["engine_choice"]["reason"]


@pytest.mark.process
def test_an_audit_with_captured_steps_is_whole(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config = dataclasses.replace(config, shadows=dataclasses.replace(config.shadows, engine="graph"))
    report = audit(config, run_units=InProcess())
    assert report.status == "COMPLETE"
    assert report.resolved["engine"] == "graph"
    assert not report.failures


def test_a_run_places_as_many_units_on_a_gpu_as_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ungan_dist.runs.forecast.engines.list_engines", lambda plan: ("serial",))
    timings = [dataclasses.replace(SERIAL, memory_bytes=2**30, free_bytes=2**33, cores_per_gpu=3)]
    numbers: list[int] = []
    with pytest.raises(KeyboardInterrupt):  # at the first unit
        audit(with_model(tmp_path), run_units=InProcess(0), run_once=lambda *_: timings, share_gpus=numbers.append)
    with pytest.raises(KeyboardInterrupt):  # the number is kept with the run
        audit(with_model(tmp_path), run_units=InProcess(0), share_gpus=numbers.append)
    assert numbers == [3, 3]
