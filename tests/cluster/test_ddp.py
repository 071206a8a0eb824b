"""Data-parallel training with Ray Train: two gloo workers on the tests' cluster."""

from __future__ import annotations

import dataclasses
import errno
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
from ray.exceptions import ActorDiedError
from ray.train.v2.api.exceptions import WorkerGroupError
from small_audit import small_config

from ungan_dist import launch, store
from ungan_dist.cluster.ddp import TrainerResources, describe_error, refuse_infeasible, run_with_trainer
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import FleetConfig
from ungan_dist.config.training import AugmentConfig
from ungan_dist.errors import ConfigError, Diverged
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.storage.mirror import working_folder

# Ray Train uses deprecated names of Ray Data
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

NODES = [{"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}}, {"Alive": True, "Resources": {"CPU": 2.0}}]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            TrainerResources(num_workers=5),
            r"num_workers 5 with 1 CPUs and 0 GPUs.*2 nodes have 4 CPUs and 1 GPUs, room for 4",
        ),
        (TrainerResources(num_workers=2, gpus_per_worker=1), r"1 CPUs and 1 GPUs.*4 CPUs and 1 GPUs, room for 1"),
        (TrainerResources(num_workers=1, cpus_per_worker=3), r"3 CPUs.*4 CPUs.*room for 0"),
    ],
)
def test_a_trainer_that_does_not_fit_is_refused(resources: TrainerResources, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_infeasible(resources, NODES)
    refuse_infeasible(dataclasses.replace(resources, autoscaling=True), NODES)


def test_a_trainer_that_fits_is_accepted() -> None:
    refuse_infeasible(TrainerResources(num_workers=4), NODES)
    refuse_infeasible(TrainerResources(num_workers=1, gpus_per_worker=1, cpus_per_worker=2), NODES)


def config_for(output: Path, **changes: Any) -> AuditConfig:
    config = small_config(output, fleet=FleetConfig(gpus_per_worker=0, num_workers=2), **changes)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=2, epochs=20))


def with_noise(config: AuditConfig) -> AuditConfig:
    augment = AugmentConfig(factory="user_transforms:noise")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, augment=augment))


def list_train_workers() -> list[int]:
    """List the processes of Ray Train in the tests' own cluster, recognised by its token."""
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
    """Kill one worker as soon as a training has saved an epoch."""

    def __init__(self, checkpoint: Path) -> None:
        self.killed = 0
        self._checkpoint = checkpoint
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._checkpoint.exists():
            time.sleep(0.02)
        self.killed = list_train_workers()[-1]
        os.kill(self.killed, signal.SIGKILL)


METHODS = ("original", "ungan")


def read_weights(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {method: safetensors.torch.load((run / f"models/0/{method}.safetensors").read_bytes()) for method in METHODS}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of the same targets, trained by two processes without Ray; a transform of the user's own augments."""
    with open_run(with_noise(config_for(tmp_path_factory.mktemp("alone"), methods=METHODS))) as plan:
        in_world(2, "process_groups:run_together", plan.targets)
        return read_weights(plan.folder)


@pytest.mark.timeout(600)
@pytest.mark.ray
@pytest.mark.parametrize("is_stored", [False, True])
def test_an_audit_with_two_training_workers_survives_the_kill_of_one(
    ray_cluster: Any,
    tmp_path: Path,
    without_figures: None,
    expected: dict[str, dict[str, torch.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    is_stored: bool,
) -> None:
    """The output is a folder that all share, or storage: the workers then train in a folder of theirs."""
    there = tmp_path / "there"
    url = f"file://{there}" if is_stored else str(there)
    theirs = working_folder(url) if is_stored else there
    monkeypatch.setenv("HOME", str(tmp_path / "driver"))
    config = dataclasses.replace(with_noise(config_for(tmp_path, cluster="auto", methods=METHODS)), output=url)
    killer = Killer(theirs / "run/checkpoints/0/original.json")
    report = launch.audit(config)
    assert report.status == "COMPLETE"
    assert killer.killed
    assert not alive(killer.killed)
    for facts in (store.read_marker(path) for path in (there / "run/models/0").glob("*.json")):
        assert facts["facts"]["num_workers"] == 2
    found = read_weights(there / "run")
    for method in METHODS:
        assert all(torch.equal(found[method][name], expected[method][name]) for name in expected[method])
    assert "trainer" not in {path.name for path in (there / "run").iterdir()}
    for run in (there / "run", theirs / "run"):
        # a process that is killed while it writes leaves a temporary file, which the next run removes
        assert not [path for path in run.glob("checkpoints/*/*") if path.suffix != ".tmp"]


@pytest.mark.timeout(600)
@pytest.mark.ray
def test_a_failing_target_is_named_and_the_others_are_done(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CF-k with more stages than the model has fails on every worker. Shadow models are trained data-parallel too."""
    monkeypatch.setattr("ungan_dist.cluster.ddp.MAX_FAILURES", 0)
    config = config_for(tmp_path, methods=("original", "cf_k", "retrain"))
    config = dataclasses.replace(config, cf_k=dataclasses.replace(config.cf_k, k=9))
    with open_run(config) as plan:
        in_world(2, "process_groups:run_together", plan.originals)
        todo = [*plan.unlearning, plan.shadows[0]]
        outcomes = {outcome.unit.title: outcome for outcome in run_with_trainer(todo, TrainerResources(num_workers=2))}
    assert outcomes["cf_k, seed 0"].kind == "failed"
    assert "cf_k.k 9 exceeds" in outcomes["cf_k, seed 0"].error
    assert outcomes["retrain, seed 0"].kind == "done"
    assert outcomes["shadow models 0–1"].kind == "done"
    with open_run(config_for(tmp_path / "without Ray", methods=("original",))) as alone:
        in_world(2, "process_groups:run_together", alone.shadows[:1])
    ours, theirs = (root / plan.shadows[0].log_odds_file for root in (tmp_path, tmp_path / "without Ray"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "shadows" / plan.shadows[0].id).exists()


@pytest.mark.ray
def test_too_small_a_cluster_is_refused_before_any_training(ray_cluster: Any, tmp_path: Path) -> None:
    config = config_for(tmp_path, cluster="auto")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=50))
    with pytest.raises(ConfigError, match=r"num_workers 50.*4 CPUs"):
        launch.audit(config)
    assert not list(tmp_path.iterdir())


GLOO = RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:21205")


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        ([ValueError("cf_k.k 9 exceeds the 4 stages"), GLOO], "failed", "ValueError: cf_k.k 9 exceeds"),
        ([GLOO, ValueError("no such layer")], "failed", "ValueError: no such layer"),
        ([GLOO, OSError(errno.ENOSPC, "No space left on device")], "storage_full", "No space left"),
        ([GLOO, Diverged("the model has diverged")], "diverged", "the model has diverged"),
        ([GLOO, GLOO], "error", "Connection closed by peer"),
        ([ActorDiedError(), ActorDiedError()], "error", "ActorDiedError"),
        ([ActorDiedError(), GLOO], "error", "Connection closed by peer"),
    ],
)
def test_the_kind_of_a_trainers_failure_is_that_of_its_cause(raised: list[Exception], kind: str, words: str) -> None:
    found = describe_error(WorkerGroupError("a snippet", dict(enumerate(raised))))
    assert found[1] == kind
    assert words in found[0]
    assert "a snippet" in found[2]


def test_an_error_of_the_trainer_alone_may_not_repeat() -> None:
    assert describe_error(RuntimeError("the controller died"))[:2] == ("RuntimeError: the controller died", "error")
