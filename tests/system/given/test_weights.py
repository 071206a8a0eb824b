"""Load, hash and check user-supplied weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import user_models
from custom_audit import NUM_CLASSES, custom_arguments, parse_config, write_noise_parquet

from ungan_dist.config.data import SourceConfig
from ungan_dist.config.identity import identity
from ungan_dist.config.recipes import custom
from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import load_source
from ungan_dist.runs.given import given_sets
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.targets import train_target
from ungan_dist.training.weights import load_weights, weights_bytes


def test_weights_changed_since_the_plan_are_refused(pictures: Path, lists: Path, weights: Path) -> None:
    own = lists / "w.safetensors"
    own.write_bytes(weights.read_bytes())
    plan = make_plan(
        parse_config(*custom_arguments(pictures, lists, "--original", str(own), "--members", f"{lists}/members.npy"))
    )
    prepare(plan.source, lists / "out")
    safetensors.torch.save_file(user_models.linear(NUM_CLASSES, 3).state_dict(), own)
    with pytest.raises(ValueError, match="has changed since the run began"):
        train_target(plan.originals[0])


def test_tied_weights_are_written_and_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    (tmp_path / "tied.safetensors").write_bytes(weights_bytes(model))
    again = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    again[1].weight = again[0].weight
    load_weights(again, tmp_path / "tied.safetensors")
    assert torch.equal(again[1].weight, model[0].weight)


def test_the_hash_of_a_run_includes_the_content_of_given_weights(pictures: Path, lists: Path, weights: Path) -> None:
    def given_hash(content: bytes) -> str:
        (lists / "u.safetensors").write_bytes(content)
        more = (
            "--original",
            str(weights),
            "--members",
            f"{lists}/members.npy",
            "--unlearned",
            f"{lists}/u.safetensors",
        )
        config = parse_config(*custom_arguments(pictures, lists, *more))
        return given_sets(config, load_source(config.source)).given_hash

    same, other = weights.read_bytes(), safetensors.torch.save(user_models.linear(NUM_CLASSES, 3).state_dict())
    assert given_hash(same) == given_hash(same) != given_hash(other)


def test_given_moments_replace_the_computed_ones(project: Path) -> None:
    write_noise_parquet(Path("data.parquet"), [str(number) for number in range(30)])
    own, told = (
        SourceConfig(kind="auto", path="data.parquet", **more) for more in ({}, {"mean": (0.5,), "std": (2.0,)})
    )
    assert (load_source(told).mean, load_source(told).std) == ((0.5,), (2.0,))
    assert load_source(own).content_hash != load_source(told).content_hash
    base = custom(data="data.parquet")
    assert "mean" not in identity(base)["source"]
    assert identity(replace(base, source=told))["source"]["mean"] == [0.5]
    with pytest.raises(ValueError, match=r"each of the 1 channels"):
        load_source(replace(told, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="go together"):
        SourceConfig(mean=(0.5,))
