"""Methods whose steps are captured end with the weights that they reach step by step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from small_audit import small_config
from world_methods import CONFIGS, request

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.data.seeds import seed_layers
from ungan_dist.methods import Request, Unlearned, run_method
from ungan_dist.runs import targets
from ungan_dist.runs.evaluation import evaluate_target
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.targets import TargetUnit, train_target
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.world import World

CPU = torch.device("cpu")
CAPTURED = [
    *("retrain", "fine_tuning", "random_labels, redrawn", "neg_grads", "adv_neg_grads, alpha", "cf_k, statistics"),
    *("unsir", "scrub, small", "scrub, rewind", "ungan, energy", "ungan, all pairs", "ungan, norm", "ungan, train"),
    *("ungan_bce", "unsir, mufac", "unsir, class", "ungan_joint", "ungan_joint, within classes", "ungan_joint, critic"),
    *("salun", "bad_teacher", "l1_sparse", "delete"),
]
NUM_KINDS = {"unsir": 2, "unsir, mufac": 2, "unsir, class": 3, "scrub, small": 2, "ungan, energy": 3}
"""Kinds of steps, each of which is captured, if there are several."""
TAKE_LONG = ("ungan, all pairs", "ungan, norm", "scrub, rewind")


def unlearned(name: str, **changes: Any) -> Unlearned:
    with seed_layers(name):
        return run_method(dataclasses.replace(request(World(), "global"), **changes), CONFIGS[name])


def assert_same(ours: Unlearned, theirs: Unlearned, atol: float) -> None:
    for key, value in theirs.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[key], value, atol=atol, rtol=0, msg=key)
    assert ours.curves.keys() == theirs.curves.keys()
    for key, curve in theirs.curves.items():
        assert ours.curves[key] == pytest.approx(curve, abs=max(atol, 1e-300))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.process] * (name in TAKE_LONG)) for name in CAPTURED]
)
def test_a_captured_method_is_the_same_method(name: str) -> None:
    steps = CapturedSteps(CPU)
    assert_same(unlearned(name, steps=steps), unlearned(name), atol=1e-12)
    assert steps.num_captured >= NUM_KINDS.get(name, 1)


class Interrupted(BaseException):
    """Ends a training from outside."""


@pytest.mark.parametrize("name", ["fine_tuning", "random_labels", "ungan", "scrub, small"])
def test_a_captured_method_continues_from_a_checkpoint(name: str, tmp_path: Path) -> None:
    def checkpoint(place: str, last: int) -> Checkpoint:
        def interrupt(done: int, total: int) -> None:
            if done == last:
                raise Interrupted

        return Checkpoint(tmp_path / place, "state", id="an id", world=World(), on_epoch=interrupt)

    expected = unlearned(name, steps=CapturedSteps(CPU))
    with pytest.raises(Interrupted):
        unlearned(name, steps=CapturedSteps(CPU), checkpoint=checkpoint("own", 1))
    assert_same(unlearned(name, steps=CapturedSteps(CPU), checkpoint=checkpoint("own", 0)), expected, atol=0)
    # an attempt without capture writes the same state
    with pytest.raises(Interrupted):
        unlearned(name, checkpoint=checkpoint("other", 1))
    assert_same(unlearned(name, steps=CapturedSteps(CPU), checkpoint=checkpoint("other", 0)), expected, atol=1e-12)


def test_the_time_of_capture_is_part_of_the_unlearning_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path, ungan=UnGANConfig(epochs=4, critic_widths=(8, 8, 8)))
    plan = make_plan(dataclasses.replace(config, shadows=dataclasses.replace(config.shadows, engine="branches")))
    prepare(plan.source, tmp_path)
    captured: list[tuple[int, int]] = []

    def counted(request: Request, config: Any) -> Unlearned:
        assert request.steps is not None
        before = request.steps.num_captured
        try:
            return run_method(request, config)
        finally:
            captured.append((before, request.steps.num_captured))

    monkeypatch.setattr(targets, "run_method", counted)

    def train(unit: TargetUnit) -> None:
        assert unit.engine == "graph"
        evaluate_target(unit, train_target(unit))

    for unit in plan.originals:
        files, facts = evaluate_target(unit, train_target(unit))
        targets.store.commit(Path(unit.run), unit.marker, id=unit.id, files=files, facts=facts)
    for unit in plan.unlearning:
        train(unit)
    (_, retrain, ungan) = captured
    assert retrain[0] == ungan[0] == 0
    assert min(retrain[1], ungan[1]) > 0
