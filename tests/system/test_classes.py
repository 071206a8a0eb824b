"""Audits that forget whole classes of digits, in full: every method, U-LiRA, and the answer that is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from in_process import InProcess, assert_refused, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.attack.evidence import Report, ULiRA
from ungan_dist.config.attack import ATTACKS, CLASS_ATTACKS
from ungan_dist.config.data import SplitConfig
from ungan_dist.config.methods import ROWS
from ungan_dist.config.training import ModelConfig, ShadowConfig
from ungan_dist.data.sources.source import load_source
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan

pytestmark = pytest.mark.usefixtures("without_figures")
METHODS = tuple(dict.fromkeys(row.field for row in ROWS.values() if row.field is not None))
"""The first row of each method, without its other settings."""


def class_split(forget: str) -> SplitConfig:
    return SplitConfig(train=200, shadow_pool=200, unseen=50, forget=forget)


@pytest.fixture(scope="module")
def every_method(tmp_path_factory: pytest.TempPathFactory) -> Report:
    config = small_config(tmp_path_factory.mktemp("classes"))
    split = SplitConfig(train=120, shadow_pool=120, unseen=30, forget="classes=3,8,9")
    config = replace(config, split=split, attack=replace(config.attack, fnr=0.05))
    config = replace(config, train=replace(config.train, epochs=1), methods=METHODS)
    return audit(config, run_units=InProcess())


@pytest.mark.process
@pytest.mark.timeout(300)
def test_every_method_forgets_classes_and_the_table_has_accuracies_by_class(every_method: Report) -> None:
    assert every_method.status == "COMPLETE"
    assert [row.method for row in every_method.rows] == list(METHODS)
    for row in every_method.rows:
        assert row.attacks.keys() == ATTACKS.keys() | CLASS_ATTACKS.keys()
        assert row.accuracy.keys() > {"retain", "forget", "non_members", "test_forgotten", "test_others"}
    retrain = next(row for row in every_method.rows if row.method == "retrain")
    assert retrain.attacks["retrain_loss"].auc.mean == 0.5  # with a single seed, it is its own reference


def test_the_unseen_set_of_ungan_is_that_of_every_other_forget_set(tmp_path: Path) -> None:
    """D_u is drawn without regard to classes, as in the paper, so it has examples of the forgotten ones."""
    config = replace(
        small_config(tmp_path), split=class_split("class=3"), attack=replace(small_config(tmp_path).attack, fnr=0.05)
    )
    by_class, random = make_plan(config), make_plan(replace(config, split=class_split("random")))
    assert np.array_equal(by_class.split.unseen, random.split.unseen)
    assert (load_source(config.source).labels[by_class.split.unseen] == 3).any()
    assert [unit.id for unit in by_class.shadows] == [unit.id for unit in random.shadows]


def test_the_command_line_states_what_is_forgotten_and_what_a_verdict_means(tmp_path: Path) -> None:
    options = [*SMALL_OPTIONS, "--output", str(tmp_path), "--attack.fnr", "0.05"]
    done = run_command("run", "digits", *options, "--split.forget", "class=3")
    assert done.returncode == 0, done.stderr
    assert "Forgotten is class '3'" in " ".join(done.stdout.split())
    assert "others %" in done.stdout
    page = (tmp_path / "run/report.html").read_text()
    assert "a model that predicts nothing of a class is told from one that never saw it only by" in page
    table = json.loads((tmp_path / "run/table.json").read_text())
    assert table["sizes"]["test_others"] < table["sizes"]["test"]
    again = run_command("report", tmp_path / "run")
    assert again.returncode == 0, again.stderr
    assert run_command("verify", tmp_path / "run").returncode == 0
    assert_refused(run_command("run", "digits", *options, "--split.forget", "class=ten"), "no class 'ten'")


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An audit of three classes whose original has learned its training examples by heart."""
    config = small_config(tmp_path_factory.mktemp("leaking"))
    recipe = replace(config.train, epochs=40, batch_size=32, learning_rate=0.1)
    config = replace(
        config,
        split=class_split("classes=3,8,9"),
        model=ModelConfig(width=8),
        train=replace(recipe, augment=replace(recipe.augment, padding=0)),
        shadows=ShadowConfig(num_models=8, unit_size=2, queries=("plain",)),
        attack=replace(config.attack, fnr=0.05, unlearned_shadows=("fine_tuning",)),
        methods=("original", "retrain", "fine_tuning"),
        num_seeds=4,
    )
    return audit(config, run_units=InProcess())


@pytest.mark.process
@pytest.mark.timeout(300)
def test_the_original_leaks_and_retrain_does_not(leaking: Report) -> None:
    original, retrain, tuned = leaking.rows
    assert original.verdict.outcome == "under-forgotten"
    assert original.auc.mean > 0.6
    assert retrain.accuracy["non_members"].mean == 0
    for name, found in retrain.attacks.items():
        assert found.auc.low < 0.5 < found.auc.high, name
    assert retrain.auc.high < original.auc.mean
    # it has forgotten nothing, and the class least of all
    assert tuned.accuracy["non_members"].mean > 0.5
    assert tuned.class_caveat
    assert tuned.verdict.outcome not in ("equivalent", "over-forgotten")
    # shadow models that forgot their examples of the classes
    assert isinstance(tuned.ulira, ULiRA)
    assert tuned.ulira.auc.mean > 0.5
