"""Targets under Ray Train: real trainers of two gloo workers on the tests' cluster."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from process_groups import in_world
from processes import alive
from small_audit import small_config

from ungan_dist import launch, store
from ungan_dist.cluster.ddp import Workers, refuse_infeasible, run_together
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import FleetConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import open_run
from ungan_dist.runs.plan import Plan

# Ray Train trips over deprecated names of Ray Data's
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

NODES = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}, {"Alive": True, "Resources": {"CPU": 2.0}}]


@pytest.mark.parametrize(
    ("workers", "there"),
    [
        (Workers(num_workers=5), r"num_workers 5 with 1 CPUs and 0 GPUs.*2 nodes have 4 CPUs and 1 GPUs, room for 4"),
        (Workers(num_workers=2, gpus_per_worker=1), r"1 CPUs and 1 GPUs.*4 CPUs and 1 GPUs, room for 1"),
        (Workers(num_workers=1, cpus_per_worker=3), r"3 CPUs.*4 CPUs.*room for 0"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(workers: Workers, there: str) -> None:
    with pytest.raises(ConfigError, match=there):
        refuse_infeasible(workers, NODES)
    refuse_infeasible(dataclasses.replace(workers, may_grow=True), NODES)


def test_what_fits_is_not_refused() -> None:
    refuse_infeasible(Workers(num_workers=4), NODES)
    refuse_infeasible(Workers(num_workers=1, gpus_per_worker=1, cpus_per_worker=2), NODES)


def config_for(output: Path, **changes: Any) -> AuditConfig:
    config = small_config(output, fleet=FleetConfig(gpus_per_worker=0, num_workers=2), **changes)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=2, epochs=20))


def train_workers() -> list[int]:
    """Ray Train's workers of the tests' own cluster: no other knows its token."""
    token = os.environ["RAY_AUTH_TOKEN"].encode()
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"TrainWorker" in (folder / "cmdline").read_bytes() and token in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


class Killer:
    """Kills one worker as soon as a training has kept an epoch."""

    def __init__(self, checkpoint: Path) -> None:
        self.killed = 0
        self.epochs_kept: dict[str, Any] = {}
        self._checkpoint = checkpoint
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._checkpoint.exists():
            time.sleep(0.02)
        self.epochs_kept = store.read_json(self._checkpoint)
        self.killed = train_workers()[-1]
        os.kill(self.killed, signal.SIGKILL)


def weights(plan: Plan, method: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load((plan.folder / f"models/0/{method}.safetensors").read_bytes())


@pytest.mark.timeout(600)
@pytest.mark.ray
def test_an_audit_whose_targets_two_workers_train_one_of_which_is_killed(ray_cluster: Any, tmp_path: Path) -> None:
    """Ray Train, the fleet and the pipeline together, against the same targets of two processes without Ray."""
    expected = config_for(tmp_path / "alone")
    with open_run(expected) as plan:
        in_world(2, "process_groups:run_together", plan.targets)
    config = config_for(tmp_path / "ray", cluster="auto")
    killer = Killer(tmp_path / "ray/run/checkpoints/0/original.json")
    report = launch.audit(config)
    assert report.status == "COMPLETE"
    assert killer.killed
    assert not alive(killer.killed)
    with open_run(config) as ours:
        for method in config.methods:
            (unit,) = (unit for unit in ours.targets if unit.method == method)
            facts = store.committed(ours.folder, unit.marker, id=unit.id)
            assert facts is not None
            assert facts["num_workers"] == 2
            here, there = weights(ours, method), weights(plan, method)
            assert all(torch.equal(here[name], there[name]) for name in there)
    left = {path.name for path in ours.folder.iterdir()}
    assert "trainer" not in left
    assert not list(ours.folder.glob("checkpoints/*/*"))


@pytest.mark.timeout(600)
@pytest.mark.ray
def test_a_target_that_cannot_be_trained_is_named_and_the_others_are_done(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CF-k of more stages than the model has raises on every worker; shadow models are trained together as well."""
    monkeypatch.setattr("ungan_dist.cluster.ddp.MAX_FAILURES", 0)
    config = config_for(tmp_path, methods=("original", "cf_k", "retrain"))
    config = dataclasses.replace(config, cf_k=dataclasses.replace(config.cf_k, k=9))
    with open_run(config) as plan:
        in_world(2, "process_groups:run_together", plan.originals)
        todo = [*plan.unlearning, plan.shadows[0]]
        outcomes = {outcome.unit.title: outcome for outcome in run_together(todo, Workers(num_workers=2))}
    assert outcomes["cf_k, seed 0"].kind == "error"
    assert "cf_k.k 9 exceeds" in outcomes["cf_k, seed 0"].error
    assert outcomes["retrain, seed 0"].kind == "done"
    assert outcomes["shadow models 0–1"].kind == "done"
    with open_run(config_for(tmp_path / "without Ray", methods=("original",))) as alone:
        in_world(2, "process_groups:run_together", alone.shadows[:1])
    ours, theirs = (root / plan.shadows[0].log_odds_file for root in (tmp_path, tmp_path / "without Ray"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "shadows" / plan.shadows[0].id).exists()


@pytest.mark.ray
def test_a_cluster_that_is_too_small_is_refused_before_anything_is_computed(ray_cluster: Any, tmp_path: Path) -> None:
    config = config_for(tmp_path, cluster="auto")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=50))
    with pytest.raises(ConfigError, match=r"num_workers 50.*4 CPUs"):
        launch.audit(config)
    assert not list(tmp_path.iterdir())
