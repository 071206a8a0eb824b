"""Fields that identify a result, fields that extend it, and fields without effect."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_audit import small_config

from ungan_dist.config.attack import ReportConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import ExecutionConfig
from ungan_dist.config.identity import content_hash, differences, identity, run_hash
from ungan_dist.config.methods import UnGANJointConfig
from ungan_dist.config.recipes import RECIPES
from ungan_dist.runs.plan import make_plan


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_complete_and_hashes_the_same_each_time(name: str) -> None:
    config = RECIPES[name]()
    assert config.name == name
    assert run_hash(config, "data") == run_hash(RECIPES[name](), "data")
    assert run_hash(config, "data") != run_hash(config, "other data")


def test_recipes_differ() -> None:
    assert len({run_hash(recipe(), "data") for recipe in RECIPES.values()}) == len(RECIPES)


def test_execution_and_append_only_fields_do_not_change_the_hash(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    same = replace(
        config,
        output="elsewhere",
        execution=ExecutionConfig(num_processes=9),
        report=ReportConfig(show_examples=True),
        methods=("original",),
        num_seeds=7,
        shadows=replace(config.shadows, num_models=128),
        source=replace(config.source, path="elsewhere"),
    )
    assert run_hash(config, "data") == run_hash(same, "data")


def test_num_workers_is_identity_only_if_it_changes_more_than_rounding(tmp_path: Path) -> None:
    config = small_config(tmp_path)

    def ids(**changes: Any) -> tuple[str, list[str]]:
        changed = replace(config, train=replace(config.train, **changes))
        return run_hash(changed, "data"), [unit.id for unit in make_plan(changed).shadows]

    alone, fleet = ids()
    assert ids(num_workers=2) == (alone, fleet)
    assert ids(num_workers=1, sync_batch_norm=False) == (alone, fleet)
    with_own_statistics = [ids(num_workers=size, sync_batch_norm=False) for size in (2, 3)]
    assert len({alone, *(run for run, _ in with_own_statistics)}) == 3
    assert all(shadows == fleet for _, shadows in with_own_statistics)


def _leaves(value: object, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{prefix}.{key}".lstrip("."))]
    return [prefix]


def test_every_other_field_changes_the_hash(tmp_path: Path) -> None:
    plain = identity(small_config(tmp_path))
    base = content_hash(plain)
    leaves = _leaves(plain)
    assert len(leaves) > 50
    rivals = {"ssd", "salun", "bad_teacher", "l1_sparse", "influence", "delete"}
    added = {
        "ungan_joint",
        "ungan_bce",
        "own_options",
        *rivals,
    }  # absent at its default, as from before there was such a field
    assert {field.name for field in dataclasses.fields(AuditConfig)} - set(plain) - added == {
        *("given", "output", "cluster", "fleet", "data", "execution", "report", "until", "budget"),
        *("methods", "num_seeds", "num_unlearnings", "own_methods", "tracking"),
    }
    other = replace(small_config(tmp_path), ungan_joint=UnGANJointConfig(beta=0.25))
    assert content_hash(identity(other)) != base
    for leaf in leaves:
        changed = identity(small_config(tmp_path))
        *parents, last = leaf.split(".")
        owner = changed
        for parent in parents:
            owner = owner[parent]
        owner[last] = "changed"
        assert content_hash(changed) != base
        assert differences(plain, changed)[0].startswith(leaf)


def test_equal_identities_do_not_differ() -> None:
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == []
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a.b: 1 → 2"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a?region=b", "a#b", "a%2Fb", "data", "shadows"])
def test_a_run_name_must_be_a_plain_folder_name_and_fit_in_a_url(name: str) -> None:
    with pytest.raises(ValueError, match="plain folder name"):
        ExecutionConfig(run_name=name)
