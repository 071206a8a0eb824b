"""Parameters that a factory freezes are never trained: in shadow models, in the original, or by a method."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from process_groups import in_world
from small_audit import small_config
from tiny_request import tiny_request

from ungan_dist.config.audit import method_config
from ungan_dist.config.methods import CFkConfig
from ungan_dist.config.recipes import custom
from ungan_dist.config.training import ModelConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods import run_method
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.shadows import train_shadows
from ungan_dist.runs.targets import train_target
from ungan_dist.training.models import build

FROZEN_BODY = ModelConfig(factory="unusual_models:frozen_body")
FROZEN = {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}


def moved(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    own = dict(after.named_parameters())
    return {name for name, value in before.named_parameters() if not torch.equal(value, own[name])}


def built(seed: int, classes: int = 10) -> torch.nn.Module:
    return build(FROZEN_BODY, channels=1, num_classes=classes, seed=seed, device=torch.device("cpu"))


def planned(output: Path, **train: object) -> Plan:
    config = small_config(output, model=FROZEN_BODY, methods=("original", "retrain"))
    plan = make_plan(dataclasses.replace(config, train=dataclasses.replace(config.train, **train)))
    prepare(plan.source, output)
    return plan


@pytest.mark.parametrize("engine", ["serial", "graph", "branches", "stacked"])
def test_original_and_shadow_models_freeze_the_same_parameters(tmp_path: Path, engine: str) -> None:
    plan = planned(tmp_path)
    trainable = {name for name, _ in built(0).named_parameters()} - FROZEN
    (shadow, *_) = train_shadows(dataclasses.replace(plan.shadows[0], engine=engine)).models
    assert moved(built(derive_seed("shadow", plan.shadows[0].seed, 0)), shadow) == trainable
    assert moved(built(derive_seed("original", 0)), train_target(plan.originals[0]).model) == trainable


@pytest.mark.parametrize(
    "method",
    [
        *("retrain", "fine_tuning", "random_labels", "neg_grads", "adv_neg_grads", "unsir", "scrub", "cf_k", "ungan"),
        *("salun", "bad_teacher", "l1_sparse", "influence", "delete"),
    ],
)
def test_no_method_trains_frozen_parameters(method: str) -> None:
    request = tiny_request(model=FROZEN_BODY)
    settings = method_config(custom(), method)
    unlearned = run_method(request, settings).model
    changed = moved(request.fresh if method == "retrain" else request.original, unlearned)
    assert changed
    assert not changed & FROZEN


def test_cf_k_with_only_frozen_stages_is_refused() -> None:
    request = tiny_request(model=ModelConfig(factory="unusual_models:frozen_head"))
    with pytest.raises(ValueError, match=r"cf_k trains 1 of the 4 stages of Sequential.*frozen.*raise cf_k.k"):
        run_method(request, CFkConfig(k=1))


@pytest.mark.process
def test_several_processes_sum_gradients_of_trainable_parameters(tmp_path: Path) -> None:
    plan = planned(tmp_path, num_workers=2)
    assert in_world(2, "process_groups:run_together", plan.originals) == [["done"], ["done"]]
