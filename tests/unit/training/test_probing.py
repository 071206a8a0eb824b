"""User models trained by several processes equal those of one process, or are refused before training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from process_groups import in_world
from small_audit import small_config
from world_methods import of_model

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.training import ModelConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.plan import make_plan
from ungan_dist.training.world import World


def brought(output: Path, factory: str, **train: Any) -> AuditConfig:
    config = small_config(output, model=ModelConfig(factory=f"shared_models:{factory}"))
    return dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=2, **train))


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("Viewing", r"cannot take an empty batch.*x\.flatten\(1\)"),
        ("activated", r"batch norm '1' .*\(Activated may do more"),
        ("hooked", r"batch norm '1' .*\(it has hooks\).*--train\.num-workers 1"),
        ("without_statistics", r"batch norm '1' .*\(it keeps no running statistics"),
    ],
)
def test_a_model_that_processes_cannot_share_is_refused(tmp_path: Path, factory: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_plan(brought(tmp_path, factory))
    alone = brought(tmp_path, factory)
    make_plan(dataclasses.replace(alone, train=dataclasses.replace(alone.train, num_workers=1)))
    if factory != "Viewing":
        make_plan(brought(tmp_path, factory, sync_batch_norm=False))


@pytest.mark.process
def test_draws_in_layers_are_reported_and_differ_between_processes(tmp_path: Path) -> None:
    (note,) = make_plan(brought(tmp_path, "dropping")).notes
    assert "2 processes" in note
    assert not make_plan(brought(tmp_path, "Twice")).notes
    masks = in_world(2, "world_methods:dropped")
    assert not torch.equal(*masks)
    assert torch.equal(masks[0], in_world(1, "world_methods:dropped")[0])


@pytest.mark.timeout(300)
@pytest.mark.process
def test_a_reused_batch_norm_and_an_unused_layer_make_no_difference() -> None:
    alone = of_model(World(), "Twice")
    for rank in in_world(2, "world_methods:of_model", "Twice"):
        assert rank.keys() == alone.keys()
        assert max(float((rank[name] - alone[name]).abs().max()) for name in alone) < 1e-9


@pytest.mark.process
def test_differing_buffers_are_an_error() -> None:
    assert in_world(2, "world_methods:refused_for_buffers") == [True, True]


@pytest.mark.process
def test_equally_diverged_processes_agree() -> None:
    assert in_world(2, "world_methods:agrees_on_nan") == [(True, False)] * 2


@pytest.mark.timeout(300)
@pytest.mark.process
def test_noise_trained_with_statistics_per_process_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    """The noise stage moves each process's running statistics and takes no step."""
    whole = in_world(2, "world_methods:resumable_on_own_statistics", tmp_path / "whole", None)[0]
    with pytest.raises(RuntimeError, match="-9"):
        in_world(2, "world_methods:resumable_on_own_statistics", tmp_path / "killed", 2)
    resumed = in_world(2, "world_methods:resumable_on_own_statistics", tmp_path / "killed", None)[0]
    assert resumed[1] < whole[1]
    assert whole[0].keys() == resumed[0].keys()
    assert all(torch.equal(value, resumed[0][name]) for name, value in whole[0].items())
