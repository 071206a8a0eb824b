"""The shadow fleet on a real Ray cluster: the bits of the local pool, whatever is killed."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fleet_faults as faults
import numpy as np
import pytest
import ray
from processes import alive
from sleeping_units import BreakOnce, HangOnce, SleepingUnit, always_done, sleep
from small_audit import small_config

from ungan_dist import store
from ungan_dist.cluster import drive
from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import FleetConfig
from ungan_dist.config.recipes import digits
from ungan_dist.config.training import ModelConfig, ShadowConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.errors import ConfigError
from ungan_dist.runs import pipeline
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.progress import Event
from ungan_dist.runs.units import Done, Failed

# a busy machine takes long to start workers anew
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster"), pytest.mark.timeout(400)]
FOUR = FleetConfig(num_workers=4)


def audit_config(output: Path) -> AuditConfig:
    """64 shadow models of ``digits`` in units of 8, a short training each."""
    recipe = digits()
    return dataclasses.replace(
        small_config(output),
        split=recipe.split,
        model=ModelConfig(width=4),
        train=dataclasses.replace(recipe.train, epochs=2),
        shadows=ShadowConfig(num_models=64, unit_size=8, queries=("plain", "shift")),
    )


def planned(output: Path) -> Plan:
    plan = make_plan(audit_config(output))
    prepare(plan.source, output)
    return plan


def log_odds(plan: Plan) -> np.ndarray:
    return np.concatenate([store.read_array(plan.folder.parent / unit.log_odds_file) for unit in plan.shadows])


@pytest.fixture(scope="module")
def local_log_odds(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    plan = planned(tmp_path_factory.mktemp("local"))
    with LocalPool(2) as pool:
        assert all(isinstance(outcome, Done) for outcome in pool.run_units(plan.shadows))
    return log_odds(plan)


class Heard:
    """What the fleet told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        self.notes.append(event.note)

    def __contains__(self, words: str) -> bool:
        return any(words in note for note in self.notes)


def gone(pid: int) -> bool:
    """Whether a process ends; a removed node may leave its workers alive for seconds."""
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not alive(pid)


def settled(outcomes: list[Done | Failed]) -> Counter[str]:
    return Counter(outcome.unit.id for outcome in outcomes)


def test_workers_killed_at_four_points_of_a_unit_change_no_bit(tmp_path: Path, local_log_odds: np.ndarray) -> None:
    plan = planned(tmp_path)
    victims = {unit.id: point for unit, point in zip(plan.shadows[1::2], faults.DEATHS, strict=True)}
    heard = Heard()
    with Fleet(FOUR, on_progress=heard, execute=faults.Dying(victims=victims, notes=tmp_path)) as fleet:
        outcomes = list(fleet.run_units(plan.shadows))
    killed = [int(note.read_text()) for note in tmp_path.glob("*.killed")]
    assert len(killed) == 4
    assert all(map(gone, killed))
    assert "calls made again" in heard
    assert settled(outcomes) == {unit.id: 1 for unit in plan.shadows}
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert (log_odds(plan) == local_log_odds).all()


def at_work_on(node: Any, notes: Path) -> list[int]:
    """Processes on a node that have begun with a unit."""
    (id,) = (known["NodeID"] for known in ray.nodes() if known["RayletSocketName"] == node.raylet_socket_name)
    return [int(note.stem) for note in notes.glob("*.at") if note.read_text() == id]


def test_a_node_lost_without_grace_changes_no_bit(tmp_path: Path, ray_cluster: Any, local_log_odds: np.ndarray) -> None:
    plan = planned(tmp_path)
    node = next(iter(ray_cluster.worker_nodes))
    heard = Heard()
    outcomes: list[Done | Failed] = []
    removal: threading.Thread | None = None
    victims: list[int] = []
    try:
        with Fleet(FOUR, on_progress=heard, execute=faults.Slow(notes=tmp_path, seconds=1.5)) as fleet:
            for outcome in fleet.run_units(plan.shadows):
                outcomes.append(outcome)
                if len(outcomes) == 1:
                    victims = [int(note.stem) for note in tmp_path.glob("*.at") if note.read_text() == node.unique_id]
                    removal = threading.Thread(target=ray_cluster.remove_node, args=(node, False))
                    removal.start()
            assert removal
            removal.join()
            assert all(map(gone, victims))
    finally:
        ray_cluster.add_node(num_cpus=2, num_gpus=2)
    assert "calls made again" in heard
    assert settled(outcomes) == {unit.id: 1 for unit in plan.shadows}
    assert (log_odds(plan) == local_log_odds).all()


def test_poison_is_quarantined_a_hang_is_killed_and_the_rest_completes(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    raising, exiting, hanging = (unit.id for unit in plan.shadows[2:5])
    execute = faults.Poisoned(raising=raising, exiting=exiting, hanging=hanging, notes=tmp_path)
    config = FleetConfig(num_workers=4, deadline_s=15.0, max_system_failures=2)
    with Fleet(config, execute=execute) as fleet:
        outcomes = list(fleet.run_units(plan.shadows))
        failed = {outcome.unit.id: outcome.error for outcome in outcomes if isinstance(outcome, Failed)}
    assert settled(outcomes) == {unit.id: 1 for unit in plan.shadows}
    assert set(failed) == {raising, exiting}
    assert "not finite" in failed[raising]
    assert "lost 2 times" in failed[exiting]
    assert gone(int((tmp_path / "hung").read_text()))


def test_what_does_not_fit_in_memory_is_planned_anew_in_pairs(tmp_path: Path, local_log_odds: np.ndarray) -> None:
    config = audit_config(tmp_path)
    config = dataclasses.replace(
        config, methods=("original",), shadows=dataclasses.replace(config.shadows, num_models=16)
    )
    with Fleet(FOUR, execute=faults.short_of_memory) as fleet:
        report = pipeline.audit(config, run_units=fleet.run_units, device="cpu")
    assert report.status == "COMPLETE"
    plan = make_plan(config)
    assert [len(unit.shadows) for unit in plan.shadows] == [2] * 8
    assert (log_odds(plan) == local_log_odds[:16]).all()


def test_a_result_that_the_driver_cannot_see_is_no_result(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    with Fleet(FleetConfig(num_workers=1, max_application_failures=1), execute=faults.elsewhere) as fleet:
        (outcome,) = fleet.run_units(plan.shadows[:1])
    assert isinstance(outcome, Failed)
    assert "all nodes share" in outcome.error


def test_workers_import_a_users_model_from_the_folder_that_the_run_began_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_own_model.py").write_text("from user_models import linear as build")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = dataclasses.replace(small_config(tmp_path), model=ModelConfig(factory="users_own_model:build"))
    config = dataclasses.replace(config, methods=("original", "fine_tuning"))
    with Fleet(FleetConfig(num_workers=2)) as fleet:
        report = pipeline.audit(config, run_units=fleet.run_units, device="cpu")
    assert report.status == "COMPLETE"
    assert [row.method for row in report.rows] == ["original", "fine_tuning"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (FleetConfig(num_workers=100), ["100", "room for 4 workers"]),
        (FleetConfig(gpus_per_worker=3.0), ["3 GPUs a worker", "2 CPUs, 2 GPUs", "--fleet.gpus-per-worker"]),
        (FleetConfig(cpus_per_worker=64.0), ["64 CPUs", "--fleet.cpus-per-worker"]),
    ],
)
def test_too_few_resources_are_refused_with_what_there_is(config: FleetConfig, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused, Fleet(config):
        pass
    assert all(word in str(refused.value) for word in words)


def test_shares_of_logical_gpus_are_counted_by_gpu() -> None:
    with Fleet(FleetConfig(gpus_per_worker=0.5, cpus_per_worker=0.25)) as fleet:
        assert fleet.room.num_workers == 8
        assert fleet.room.device == "cuda"


def test_no_silence_without_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive, "SILENCE_SECONDS", 1.5)
    heard = Heard()
    config = FleetConfig(num_workers=2, gpus_per_worker=3.0, autoscaling=True, wait_for_workers_s=4.0)
    units = [SleepingUnit(id=name, seconds=4.0) for name in "ab"]
    with Fleet(config, on_progress=heard, execute=sleep, is_done=always_done) as fleet:
        outcomes = list(fleet.run_units(units))
    assert "waiting for a worker: 2 asked for" in heard
    assert [type(outcome) for outcome in outcomes] == [Failed, Failed]
    assert "no room" in outcomes[0].error
    with Fleet(FleetConfig(num_workers=2), on_progress=heard, execute=sleep, is_done=always_done) as fleet:
        assert [type(outcome) for outcome in fleet.run_units(units)] == [Done, Done]
    assert "slowest: " in heard


@pytest.mark.parametrize("hanging", range(3))
def test_a_unit_that_was_handed_ahead_has_its_deadline_too(hanging: int, tmp_path: Path) -> None:
    units = [SleepingUnit(id=str(number), seconds=0.3) for number in range(5)]
    config = FleetConfig(num_workers=1, gpus_per_worker=0.0, deadline_s=3.0)
    execute = HangOnce(unit=str(hanging), notes=tmp_path)
    with Fleet(config, execute=execute, is_done=always_done) as fleet:
        assert settled(list(fleet.run_units(units))) == {unit.id: 1 for unit in units}
    assert gone(int((tmp_path / "hung").read_text()))


def test_a_worker_on_which_a_unit_has_raised_takes_no_other(tmp_path: Path) -> None:
    units = [SleepingUnit(id=str(number), seconds=0.2) for number in range(12)]
    config = FleetConfig(num_workers=2, gpus_per_worker=0.0)
    with Fleet(config, execute=BreakOnce(unit="0", notes=tmp_path), is_done=always_done) as fleet:
        outcomes = list(fleet.run_units(units))
    assert settled(outcomes) == {unit.id: 1 for unit in units}
    assert not [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    assert gone(int((tmp_path / "broken").read_text()))


def test_ray_is_left_as_it_was() -> None:
    assert ray.is_initialized()
