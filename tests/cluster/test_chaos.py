"""The whole recipe ``digits`` under random murder: minutes, so ``make chaos`` runs it and ``make test`` does not."""

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
from processes import alive

from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import ExecutionConfig, FleetConfig
from ungan_dist.config.recipes import digits
from ungan_dist.runs import pipeline

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500), pytest.mark.usefixtures("ray_cluster")]


def config(output: Path) -> AuditConfig:
    return dataclasses.replace(
        digits(),
        # pairs: a unit must be able to end between two murders
        shadows=dataclasses.replace(digits().shadows, unit_size=2),
        methods=("original", "ungan"),
        num_seeds=1,
        output=str(output),
        execution=ExecutionConfig(progress="none", run_name="run"),
    )


def test_digits_under_random_kills_gives_the_local_table_byte_for_byte(tmp_path: Path, ray_cluster: Any) -> None:
    del ray_cluster
    local = pipeline.audit(config(tmp_path / "local"))
    stop = threading.Event()
    killed: list[int] = []
    random.seed(0)

    def murder() -> None:
        while not stop.wait(random.uniform(4, 10)):
            living = [int(note.stem) for note in tmp_path.glob("*.at") if alive(int(note.stem))]
            if living:
                victim = random.choice(living)
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    murderer = threading.Thread(target=murder)
    murderer.start()
    try:
        fleet_config = FleetConfig(num_workers=2, gpus_per_worker=0.0, max_system_failures=20)
        with Fleet(fleet_config, execute=faults.Slow(notes=tmp_path, seconds=0.1)) as fleet:
            report = pipeline.audit(config(tmp_path / "ray"), run_units=fleet.run_units, device="cpu")
    finally:
        stop.set()
        murderer.join()
    assert len(killed) >= 5
    assert not any(map(alive, killed))
    assert report.status == local.status == "COMPLETE"
    assert (tmp_path / "ray/run/table.json").read_bytes() == (tmp_path / "local/run/table.json").read_bytes()
