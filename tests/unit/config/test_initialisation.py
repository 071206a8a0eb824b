"""Shared initial weights, as in the authors' code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_audit import small_config

from ungan_dist.config.identity import identity
from ungan_dist.config.training import ModelConfig
from ungan_dist.runs.plan import make_plan
from ungan_dist.training.models import build


def test_all_models_of_a_run_share_their_initial_weights(tmp_path: Path) -> None:
    usual = small_config(tmp_path)
    shared = replace(usual, shadows=replace(usual.shadows, shared_initialisation=True))
    assert identity(shared) != identity(usual)
    assert "shared_initialisation" not in identity(usual)["shadows"]
    plan, other = make_plan(shared), make_plan(usual)
    units = [*plan.targets, *plan.shadows]
    assert {unit.model.initial_seed for unit in units} == {0}
    assert {unit.id for unit in units}.isdisjoint(unit.id for unit in (*other.targets, *other.shadows))
    for model, equal in ((units[0].model, True), (other.shadows[0].model, False)):
        first, second = (
            build(model, channels=1, num_classes=10, seed=seed, device=torch.device("cpu")) for seed in (1, 2)
        )
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs) == equal


def test_a_seed_of_ones_own_is_kept_and_checked(tmp_path: Path) -> None:
    usual = small_config(tmp_path)
    own = replace(usual, model=ModelConfig(width=4, initial_seed=42))
    assert replace(own, shadows=replace(own.shadows, shared_initialisation=True)).model.initial_seed == 42
    with pytest.raises(ValueError, match=r"model\.initial_seed must be finite and at least 0"):
        ModelConfig(initial_seed=-1)
