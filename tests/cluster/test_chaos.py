"""Workers killed at every point of a unit, and at random during the recipe ``digits``; minutes each."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import fleet_faults as faults
import pytest
from fleet_audit import Notes, compute_local_log_odds, count_outcomes, make_fleet_plan, read_log_odds, wait_for_death
from in_process import without_progress
from processes import alive

from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import ExecutionConfig, FleetConfig
from ungan_dist.config.recipes import digits
from ungan_dist.runs import pipeline
from ungan_dist.runs.units import Done

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500), pytest.mark.usefixtures("ray_cluster")]


def config(output: Path) -> AuditConfig:
    return dataclasses.replace(
        digits(),
        # pairs, so that a unit can end between two kills
        shadows=dataclasses.replace(digits().shadows, unit_size=2),
        methods=("original", "ungan"),
        num_seeds=1,
        output=str(output),
        execution=ExecutionConfig(progress="none", run_name="run"),
    )


def test_workers_killed_at_every_point_of_a_unit_change_no_bit(tmp_path: Path) -> None:
    plan = make_fleet_plan(tmp_path / "ray")
    victims = {unit.id: point for unit, point in zip(plan.shadows[1::2], faults.POINTS, strict=True)}
    notes = Notes()
    execute = faults.KillSelf(victims=victims, notes=tmp_path)
    with Fleet(FleetConfig(num_workers=4), on_progress=notes, execute=execute) as fleet:
        outcomes = list(without_progress(fleet.run_units(plan.shadows)))
    killed = [int(note.read_text()) for note in tmp_path.glob("*.killed")]
    assert len(killed) == 4
    assert all(map(wait_for_death, killed))
    assert "retries" in notes
    assert count_outcomes(outcomes) == {unit.id: 1 for unit in plan.shadows}
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert (read_log_odds(plan) == compute_local_log_odds(tmp_path / "local")).all()


def test_digits_under_random_kills_gives_the_local_table(tmp_path: Path, ray_cluster: Any) -> None:
    del ray_cluster
    local = pipeline.audit(config(tmp_path / "local"))
    stop = threading.Event()
    killed: list[int] = []
    random.seed(0)

    def kill_at_random() -> None:
        while not stop.wait(random.uniform(4, 10)):
            living = [int(note.stem) for note in tmp_path.glob("*.at") if alive(int(note.stem))]
            if living:
                victim = random.choice(living)
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    killer = threading.Thread(target=kill_at_random)
    killer.start()
    try:
        fleet_config = FleetConfig(num_workers=2, gpus_per_worker=0.0, max_system_failures=20)
        with Fleet(fleet_config, execute=faults.ExecuteSlowly(notes=tmp_path, seconds=0.1)) as fleet:
            report = pipeline.audit(config(tmp_path / "ray"), run_units=fleet.run_units, device="cpu")
    finally:
        stop.set()
        killer.join()
    assert len(killed) >= 5
    assert not any(map(alive, killed))
    assert report.status == local.status == "COMPLETE"
    assert (tmp_path / "ray/run/table.json").read_bytes() == (tmp_path / "local/run/table.json").read_bytes()
