"""Test the recipes: the paper's sizes, one change a variant, and stable hashes and unit ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash, identity, run_hash
from ungan_dist.config.methods import TITLES, UnGANConfig
from ungan_dist.config.methods.ungan import CONTROLS, UNGAN_VARIANTS
from ungan_dist.config.recipes import RECIPES, cifar10_resnet18, custom, digits, fidelity, paper
from ungan_dist.runs.plan import blocks_of, make_plan, reopen_plan


def test_the_papers_split_gives_the_papers_steps() -> None:
    config = paper()
    assert config.split.num_forget == 1125
    assert config.split.train - config.split.num_forget == 21_375
    assert -(-config.split.train // config.train.batch_size) == 88
    assert config.split.num_forget // config.train.batch_size == 4
    assert (config.shadows.num_models, config.num_seeds, config.shadows.queries) == (128, 8, ("plain",))
    assert cifar10_resnet18().split == config.split


def test_fidelity_changes_one_factor_a_row() -> None:
    base = UnGANConfig()
    for variant, changes in UNGAN_VARIANTS.items():
        for name, value in changes.items():
            assert getattr(base, name) != value
        assert variant in CONTROLS or len(changes) == 1 or variant == "ungan_energy_all_pairs"
        assert TITLES[variant].startswith("UnGAN, ")
    assert set(UNGAN_VARIANTS) < set(fidelity().methods)
    # every field with named alternatives has a row
    alternatives = {name for changes in UNGAN_VARIANTS.values() for name in changes}
    assert {"penalty", "penalty_of", "penalty_weight", "epsilon_per", "mix_labels", "estimator"} <= alternatives
    assert {"surrogate", "critic_input", "inclusive_loops", "optimizers", "kl_direction"} <= alternatives
    assert {"batch_norm", "augment_adversarial"} <= alternatives
    assert "fidelity" in RECIPES


def test_recipes_keep_their_names_and_units() -> None:
    """New config fields must not change the ids of existing runs."""
    then = digits(scrub={"preset": "large_scale"})
    assert content_hash(identity(then)) == "4e1d8267b9748d8d70bcf3a555b34c17f3fc2272bc9b34940df9584d7a54a9ed"
    assert run_hash(then, "data") != run_hash(then, "data", results_version=1)
    resolved = {"device": "cpu", "engine": "serial", "loader": "resident"}
    plan = reopen_plan(replace(make_plan(then).record, resolved=resolved, results_version=1))
    assert plan.record.run_hash == "b8eddf0084e33108003aad7247cacb842c19010c320416a32b6a9749af3a1632"
    assert [plan.shadows[0].id, plan.shadows[-1].id] == [
        "9873ea9e30317eb8bfa9e5f16950a52f",
        "2d7ad03d42acf90ad966aa147638774c",
    ]
    # earlier versions committed blocks of eight
    assert [blocks_of(plan).make_unit(first, 8).id for first in (0, 56)] == [
        "16fc57f27974681df03531b61fbfbead",
        "369e2cd35a00923db400e1be02012aeb",
    ]
    stacked = reopen_plan(replace(plan.record, resolved=resolved | {"engine": "stacked"}))
    assert [stacked.shadows[0].id, stacked.shadows[-1].id] == [
        "c211afd26177ee5a505e04b62eb238c6",
        "67e7fb3438da569b835f5aa2dadee9d1",
    ]
    assert [plan.originals[0].id, plan.unlearning[0].id, plan.unlearning[-1].id] == [
        "e8012f97b4451529ebcdc1f70684b15831558750577f186d709a94aa5ffe2a9e",
        "91c8442bc68c9ea0ccd83114d4c2c8e899346d659a7b023be29f19f7ff963cc6",
        "acecd61ee61fcde791d13c0247e808943b191439a53db60d8f2a30409e609922",
    ]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_takes_options(recipe: Callable[..., AuditConfig]) -> None:
    """The same as changing each field by ``dataclasses.replace``."""
    default = recipe()
    changed = recipe(num_seeds=7, train={"epochs": 3, "augment": {"padding": 2}}, methods=["original", "ungan"])
    augment = replace(default.train.augment, padding=2)
    assert changed == replace(
        default,
        num_seeds=7,
        train=replace(default.train, epochs=3, augment=augment),
        methods=("original", "ungan"),
    )
    assert recipe(attack=default.attack) == default
    with pytest.raises(TypeError, match=r"no option num_seed \(did you mean num_seeds\?\)"):
        recipe(num_seed=3)
    with pytest.raises(TypeError, match=r"no option train.augment.pading \(did you mean padding\?\)"):
        recipe(train={"augment": {"pading": 3}})
    with pytest.raises(TypeError, match="train must be a TrainConfig or a dict of its fields, got 3"):
        recipe(train=3)
    with pytest.raises(ValueError, match="num_seeds must be finite and greater than 0, got 0"):
        recipe(num_seeds=0)


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (digits, {"num_seeds": "3"}, "num_seeds must be int, got '3'"),
        (digits, {"num_seeds": True}, "num_seeds must be int, got True"),
        (digits, {"train": {"epochs": 4.5}}, "train.epochs must be int, got 4.5"),
        (digits, {"methods": "ungan"}, r"methods must be tuple\[str, ...\], got 'ungan'"),
        (digits, {"output": None}, "output must be str, got None"),
        (digits, {"data": {"loader": "torch"}}, r"data.loader must be Literal\['auto', .*got 'torch'"),
        (digits, {"model": {"factory": {"name": "models:build"}}}, r"model.factory must be str \| None, got {"),
        (digits, {"given": {"forget": ["cat/0.png"]}}, r"given.forget must be str \| None, got \('cat/0.png',\)"),
    ],
)
def test_values_of_another_type_are_refused(recipe: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        recipe(**changes)


def test_a_whole_number_is_the_same_run_as_the_fraction() -> None:
    configs = [digits(train={"learning_rate": rate}) for rate in (1, 1.0, np.int64(1), np.float32(1))]
    assert len({run_hash(config, "data") for config in configs}) == 1


def test_paths_lists_and_numbers_of_numpy_are_taken() -> None:
    config = custom(
        data=Path("pictures"),
        methods=["original", "retrain"],
        num_seeds=np.int64(2),
        attack={"delta": np.float32(0.25)},
    )
    assert (config.source.path, config.methods, config.num_seeds) == ("pictures", ("original", "retrain"), 2)
    assert type(config.num_seeds) is int
    assert type(config.attack.delta) is float
