"""The fleet on a real Ray cluster gives the bits of the local pool after any kill."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import fleet_faults as faults
import numpy as np
import pytest
import ray
from fleet_audit import (
    Notes,
    compute_local_log_odds,
    count_outcomes,
    fleet_config,
    make_fleet_plan,
    read_log_odds,
    wait_for_death,
)
from in_process import InProcess, without_progress
from sleeping_units import (
    BreakOnce,
    Deaths,
    FailInThreeWays,
    HangOnce,
    SleepingUnit,
    always_done,
    die_at_first,
    divide,
    never_done,
    sleep,
)
from small_audit import small_config

from ungan_dist.cluster import dispatch
from ungan_dist.cluster.fleet import MAX_LOSSES, Fleet
from ungan_dist.config.execution import FleetConfig
from ungan_dist.config.training import ModelConfig, ShadowConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs import pipeline, progress, status
from ungan_dist.runs.plan import make_plan, split_blocks
from ungan_dist.runs.units import Done, Failed, execute

# on a busy machine the start of a worker takes long
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(400)]
TWO = FleetConfig(num_workers=2)


@pytest.fixture(scope="module")
def local_log_odds(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return compute_local_log_odds(tmp_path_factory.mktemp("local"))


def test_killed_workers_change_no_bit(tmp_path: Path, local_log_odds: np.ndarray) -> None:
    """Kill one worker in a training step and one between a commit's files and its marker."""
    plan = make_fleet_plan(tmp_path)
    victims = {plan.shadows[1].id: "step", plan.shadows[4].id: "in commit"}
    notes = Notes()
    with Fleet(TWO, on_progress=notes, execute=faults.KillSelf(victims=victims, notes=tmp_path)) as fleet:
        outcomes = list(without_progress(fleet.run_units(plan.shadows)))
    killed = [int(note.read_text()) for note in tmp_path.glob("*.killed")]
    assert len(killed) == 2
    assert all(map(wait_for_death, killed))
    assert "retries" in notes
    assert count_outcomes(outcomes) == {unit.id: 1 for unit in plan.shadows}
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert (read_log_odds(plan) == local_log_odds).all()


def test_warm_workers_are_kept_by_a_list_with_fewer_units() -> None:
    def list_pids(fleet: Fleet) -> set[int]:
        return {info.pid for info in ray.get([actor.describe.remote() for actor in fleet._actors])}

    with Fleet(FleetConfig(num_workers=2, gpus_per_worker=0.0), execute=sleep, is_done=always_done) as fleet:
        for number, seconds in enumerate((10.0, 0.0, 0.0, 0.0)):
            units = [SleepingUnit(id=f"{number}-{one}", seconds=seconds) for one in range(2 if seconds else 1)]
            assert all(isinstance(outcome, Done) for outcome in fleet.run_units(units))
            pids = list_pids(fleet)
            assert len(pids) == 2
            if seconds:
                first = pids
            assert pids == first, "a warm worker was killed, and another one has to start"


def test_progress_moves_within_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_figures: None) -> None:
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.3)
    monkeypatch.setattr(progress, "EVIDENCE_S", 0.5)
    monkeypatch.setattr(progress, "WITHIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(status, "STATUS_INTERVAL_S", 0.0)
    config = small_config(tmp_path, methods=("original",))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=400))
    folder = make_plan(config).folder
    events: list[progress.Event] = []
    recorded: list[progress.Event] = []

    def on_progress(event: progress.Event) -> None:
        events.append(event)
        last = status.read_status(folder)
        recorded.extend([last.progress] if last and last.progress else [])

    with Fleet(FleetConfig(num_workers=1, gpus_per_worker=0.0)) as fleet:
        report = pipeline.audit(config, run_units=fleet.run_units, device="cpu", on_progress=on_progress)
    assert report.status == "COMPLETE"
    stage = [event for event in events if event.stage == "original, shadows"]
    within = [event for event in stage if event.within]
    assert within == sorted(within, key=lambda event: event.done)
    notes = [event.note for event in within]
    assert any(re.fullmatch(r"shadow model [0-3]: epoch \d+ of 400", note) for note in notes), notes
    first_pair_ends = next(event.seconds for event in stage if event.note == "shadow models 0–1")
    in_first_pair = [event for event in within if re.match("shadow model [01]:", event.note)]
    assert any(event.seconds_left is not None for event in in_first_pair if event.seconds < first_pair_ends)
    assert any(event.within and event.note in notes for event in recorded)


def test_a_lost_node_changes_no_bit(tmp_path: Path, ray_cluster: Any, local_log_odds: np.ndarray) -> None:
    plan = make_fleet_plan(tmp_path)
    notes = Notes()
    outcomes: list[Done | Failed] = []
    removal: threading.Thread | None = None
    victims: list[int] = []
    try:
        with Fleet(TWO, on_progress=notes, execute=faults.ExecuteSlowly(notes=tmp_path, seconds=1.5)) as fleet:
            for outcome in without_progress(fleet.run_units(plan.shadows)):
                outcomes.append(outcome)
                if len(outcomes) == 1:
                    places = {int(note.stem): note.read_text() for note in tmp_path.glob("*.at")}
                    lost = next(iter(places.values()))
                    victims = [pid for pid, node in places.items() if node == lost]
                    (socket,) = (node["RayletSocketName"] for node in ray.nodes() if node["NodeID"] == lost)
                    (node,) = (node for node in ray_cluster.worker_nodes if node.raylet_socket_name == socket)
                    removal = threading.Thread(target=ray_cluster.remove_node, args=(node, False))
                    removal.start()
            assert removal
            removal.join()
            assert victims
            assert all(map(wait_for_death, victims))
    finally:
        if removal:
            ray_cluster.add_node(num_cpus=2, num_gpus=2)
    assert "retries" in notes
    assert count_outcomes(outcomes) == {unit.id: 1 for unit in plan.shadows}
    assert (read_log_odds(plan) == local_log_odds).all()


def test_failing_units_are_quarantined_and_the_others_complete(tmp_path: Path) -> None:
    units = [SleepingUnit(id=str(number), seconds=0.2) for number in range(12)]
    execute = FailInThreeWays(failing="2", exiting="3", hanging="4", notes=tmp_path)
    config = FleetConfig(num_workers=2, gpus_per_worker=0.0, deadline_s=4.0, max_system_failures=2)
    with Fleet(config, execute=execute, is_done=execute.is_done) as fleet:
        outcomes = list(fleet.run_units(units))
    failed = {outcome.unit.id: outcome.error for outcome in outcomes if isinstance(outcome, Failed)}
    assert count_outcomes(outcomes) == {unit.id: 1 for unit in units}
    assert set(failed) == {"2", "3"}
    assert "not finite" in failed["2"]
    assert "lost 2 times" in failed["3"]
    assert wait_for_death(int((tmp_path / "hung").read_text()))


@pytest.mark.parametrize("method", ["run_once", "run_on_each_gpu_type"])
def test_a_preparation_is_repeated_when_its_process_is_lost(tmp_path: Path, method: str) -> None:
    with Fleet(TWO, execute=sleep, is_done=always_done) as fleet:
        run = getattr(fleet, method)
        assert run(die_at_first, Deaths(times=MAX_LOSSES, notes=tmp_path)) == [MAX_LOSSES + 1]
        with pytest.raises(Unfinished, match=f"lost the process of a preparation {MAX_LOSSES + 1} times"):
            run(die_at_first, Deaths(times=99, notes=tmp_path))
        assert len(list(tmp_path.iterdir())) == 2 * (MAX_LOSSES + 1)
        with pytest.raises(ZeroDivisionError):  # what a function raises is no loss
            run(divide, 0)


def test_a_unit_that_runs_out_of_memory_is_planned_again_in_pairs(tmp_path: Path, without_figures: None) -> None:
    config = fleet_config(tmp_path)
    config = dataclasses.replace(
        config,
        methods=("original",),
        shadows=dataclasses.replace(config.shadows, num_models=16, engine="stacked"),
    )
    with Fleet(TWO, execute=faults.run_out_of_memory) as fleet:
        report = pipeline.audit(config, run_units=fleet.run_units, device="cpu")
    assert report.status == "COMPLETE"
    plan = make_plan(config)
    assert [len(unit.shadows) for unit in plan.shadows] == [2] * 8
    alone = make_plan(dataclasses.replace(config, output=str(tmp_path / "alone")))
    prepare(alone.source, tmp_path / "alone")
    alone = split_blocks(alone, {unit.id for unit in alone.shadows})
    assert all(isinstance(execute(unit), Done) for unit in alone.shadows)
    assert (read_log_odds(plan) == read_log_odds(alone)).all()


def test_a_result_that_the_driver_cannot_see_does_not_count() -> None:
    config = FleetConfig(num_workers=1, max_application_failures=1)
    with Fleet(config, execute=sleep, is_done=never_done) as fleet:
        (outcome,) = fleet.run_units([SleepingUnit(id="a", seconds=0.0)])
    assert isinstance(outcome, Failed)
    assert "all nodes share" in outcome.error


def test_workers_import_a_users_model_and_method_from_the_drivers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_figures: None
) -> None:
    (tmp_path / "users_own_model.py").write_text(
        "from user_models import linear as build\nfrom misbehaving_models import AlwaysDropping"
    )
    (tmp_path / "users_own_method.py").write_text(
        "def retrain_a_little(request):\n"
        "    model = request.copy_fresh()\n"
        "    next(model.parameters()).data.add_(1)\n"
        "    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = dataclasses.replace(small_config(tmp_path), model=ModelConfig(factory="users_own_model:build"))
    methods = ("original", "fine_tuning", "users_own_method:retrain_a_little")
    config = dataclasses.replace(config, methods=methods)
    dropping = dataclasses.replace(config, model=ModelConfig(factory="users_own_model:AlwaysDropping"))
    with Fleet(TWO) as fleet:
        report = pipeline.audit(config, run_units=fleet.run_units, run_once=fleet.run_once, device="cpu")
        with pytest.raises(ConfigError, match="random in eval mode"):  # the rehearsal of a worker
            pipeline.audit(dropping, run_units=fleet.run_units, run_once=fleet.run_once, device="cpu")
    assert report.status == "COMPLETE"
    assert [row.method for row in report.rows] == [*methods]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (FleetConfig(num_workers=100), ["100", "room for 4 workers"]),
        (FleetConfig(gpus_per_worker=3.0), ["3 GPUs per worker", "2 CPUs, 2 GPUs", "--fleet.gpus-per-worker"]),
        (FleetConfig(cpus_per_worker=64.0), ["64 CPUs", "--fleet.cpus-per-worker"]),
    ],
)
def test_too_large_a_fleet_is_refused_with_the_numbers(config: FleetConfig, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused, Fleet(config):
        pass
    assert all(word in str(refused.value) for word in words)


def test_shares_of_gpus_are_counted_per_gpu() -> None:
    with Fleet(FleetConfig(gpus_per_worker=0.5, cpus_per_worker=0.25)) as fleet:
        assert fleet.allocation.num_workers == 8
        assert fleet.allocation.device == "cuda"


def test_a_long_silence_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SILENCE_SECONDS", 1.5)
    notes = Notes()
    config = FleetConfig(num_workers=2, gpus_per_worker=3.0, autoscaling=True, wait_for_workers_s=4.0)
    units = [SleepingUnit(id=name, seconds=4.0) for name in "ab"]
    with Fleet(config, on_progress=notes, execute=sleep, is_done=always_done) as fleet:
        outcomes = list(fleet.run_units(units))
    assert "waiting for a worker: 2 requested" in notes
    assert [type(outcome) for outcome in outcomes] == [Failed, Failed]
    assert "no room" in outcomes[0].error
    with Fleet(TWO, on_progress=notes, execute=sleep, is_done=always_done) as fleet:
        assert [type(outcome) for outcome in fleet.run_units(units)] == [Done, Done]
    assert "slowest: " in notes


def test_a_unit_that_was_submitted_ahead_has_a_deadline_too(tmp_path: Path) -> None:
    units = [SleepingUnit(id=str(number), seconds=0.3) for number in range(5)]
    config = FleetConfig(num_workers=1, gpus_per_worker=0.0, deadline_s=3.0)
    with Fleet(config, execute=HangOnce(unit="1", notes=tmp_path), is_done=always_done) as fleet:
        assert count_outcomes(list(fleet.run_units(units))) == {unit.id: 1 for unit in units}
    assert wait_for_death(int((tmp_path / "hung").read_text()))


def test_a_worker_is_replaced_after_a_unit_fails_on_it(tmp_path: Path) -> None:
    units = [SleepingUnit(id=str(number), seconds=0.2) for number in range(12)]
    config = FleetConfig(num_workers=2, gpus_per_worker=0.0)
    with Fleet(config, execute=BreakOnce(unit="0", notes=tmp_path), is_done=always_done) as fleet:
        outcomes = list(fleet.run_units(units))
    assert count_outcomes(outcomes) == {unit.id: 1 for unit in units}
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert wait_for_death(int((tmp_path / "broken").read_text()))


def test_the_connection_of_the_caller_is_kept() -> None:
    assert ray.is_initialized()


def test_shadow_models_unlearn_on_a_fleet_whose_workers_die(
    tmp_path: Path, finished_run: Path, without_figures: None
) -> None:
    """The fleet and this process give the same bits, although workers die in the middle of a unit and of a commit."""
    tables: list[bytes] = []
    for name in ("local", "fleet"):
        output = shutil.copytree(finished_run, tmp_path / name)
        config = small_config(output, shadows=ShadowConfig(num_models=6, unit_size=2, queries=("plain", "shift")))
        config = dataclasses.replace(config, attack=dataclasses.replace(config.attack, unlearned_shadows=("retrain",)))
        if name == "local":
            pipeline.audit(config, run_units=InProcess(), device="cpu")
        else:
            first, second, _ = make_plan(config).unlearned_shadows
            victims = {first.id: "step", second.id: "in commit"}
            with Fleet(TWO, execute=faults.KillSelf(victims=victims, notes=tmp_path)) as fleet:
                pipeline.audit(config, run_units=fleet.run_units, device="cpu")
            assert len(list(tmp_path.glob("*.killed"))) == 2
        tables.append((output / "run/table.json").read_bytes())
    assert tables[0] == tables[1]
