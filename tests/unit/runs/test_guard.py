"""User code that changes what the units of one process share: its unit fails, and all later ones read clean data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import spoiling_code
import torch
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.config.training import AugmentConfig, ModelConfig
from ungan_dist.data.prepared import open_examples, prepare
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Done, Failed, Unit, execute, is_done

METHODS = {
    "change_labels": "request.data.labels",
    "images_and_raise": "request.data.images",
    "images_by_numpy": "request.data.images",
    "change_table": "request.data.table",
    "change_retain": "request.retain",
    "change_original": "of request.original",
    "change_fresh": "of request.fresh",
    "change_default_dtype": "the default dtype",
}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TargetUnit]:
    """Units by method; the original is trained."""
    names = (*METHODS, "two_settings_and_raise")
    methods = ("original", "retrain", "fine_tuning", *(f"spoiling_code:{name}" for name in names))
    plan = make_plan(small_config(tmp_path_factory.mktemp("out"), methods=methods))
    prepare(plan.source, Path(plan.targets[0].prepared.output))
    found = {unit.method.removeprefix("spoiling_code:"): unit for unit in plan.targets}
    assert isinstance(execute(found["original"]), Done)
    return found


def weights_of_fine_tuning(units: dict[str, TargetUnit]) -> bytes:
    unit = units["fine_tuning"]
    assert isinstance(execute(unit), Done)
    return Path(unit.run, unit.weights_file).read_bytes()


def fails(unit: Unit) -> Failed:
    outcome = execute(unit)
    assert isinstance(outcome, Failed)
    assert outcome.is_final
    assert not is_done(unit)
    return outcome


def test_a_method_after_one_that_spoils_gives_the_same_bits_as_alone(units: dict[str, TargetUnit]) -> None:
    alone = weights_of_fine_tuning(units)
    for name, changed in METHODS.items():
        failed = fails(units[name])
        assert f"spoiling_code:{name} chang" in failed.error
        assert changed in failed.traceback
        assert ("RuntimeError: out of ideas" in failed.traceback) == name.endswith("raise")
        assert weights_of_fine_tuning(units) == alone, name


def test_settings_are_restored_even_if_the_method_raises(units: dict[str, TargetUnit]) -> None:
    before = torch.get_num_threads()
    assert "out of ideas" in fails(units["two_settings_and_raise"]).error
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("kind", ["function", "augmentation", "model"])
def test_training_functions_augmentations_and_models_are_guarded_alike(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path, methods=("original", "retrain"))
    train: dict[str, Any] = {
        "function": {"function": "spoiling_code:fit"},
        "augmentation": {"augment": AugmentConfig(factory="spoiling_code:augment")},
        "model": {},
    }[kind]
    model = ModelConfig(factory="spoiling_code:Net") if kind == "model" else config.model
    plan = make_plan(replace(config, model=model, train=replace(config.train, epochs=1, **train)))
    prepare(plan.source, tmp_path)
    for unit in (plan.targets[0], plan.shadows[0]):
        shared = (unit.prepared, unit.device, unit.fused)
        monkeypatch.setattr(spoiling_code, "SHARED", shared)
        clean = open_examples(*shared).labels.clone()
        failed = fails(unit)
        assert ("the default dtype" if kind == "augmentation" else "request.data.labels") in failed.error
        assert torch.equal(open_examples(*shared).labels, clean)
        assert torch.get_default_dtype() == torch.float32


def test_the_rehearsal_refuses_such_a_method_before_anything_is_trained(tmp_path: Path) -> None:
    methods = ("--methods", "original,retrain,spoiling_code:change_labels")
    refused = run_command("run", "digits", *SMALL_OPTIONS, *methods, "--output", tmp_path)
    assert_refused(refused, "spoiling_code:change_labels changed request.data.labels in place", "change a copy")
    assert not list(tmp_path.rglob("*.safetensors"))
