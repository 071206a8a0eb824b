"""``ungan_dist.unlearn`` and its example in the README."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ungan_dist
from ungan_dist.config.methods import FineTuningConfig
from ungan_dist.config.recipes import custom

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """Variables of the README's example after it has run."""
    (code,) = re.findall(r"```python\n(import numpy.*?)```", README.read_text(), flags=re.S)
    assert len(code.strip().splitlines()) <= 11
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_readmes_example_unlearns_a_copy(example: dict[str, Any]) -> None:
    model, unlearned = example["model"], example["unlearned"]
    assert type(unlearned) is type(model)
    assert not unlearned.training
    assert not torch.equal(unlearned[1].weight, model[1].weight)
    images = torch.from_numpy(example["images"]).permute(0, 3, 1, 2).float()
    assert torch.isfinite(unlearned(images)).all()


def test_retrain_starts_from_new_weights_and_learns(example: dict[str, Any]) -> None:
    retrained = ungan_dist.unlearn(example["model"], example["data"], "retrain")
    data = example["data"]
    pixels = torch.from_numpy(data.images[data.retain] / 255).float()
    normalised = (pixels - pixels.mean()) / pixels.std(correction=0)
    accuracy = (retrained(normalised.permute(0, 3, 1, 2)).argmax(1).numpy() == data.labels[data.retain]).mean()
    assert accuracy > 0.9


def test_given_options_and_seed_are_used(example: dict[str, Any]) -> None:
    one_epoch = replace(custom(), fine_tuning=FineTuningConfig(epochs=1))
    models = [
        ungan_dist.unlearn(example["model"], example["data"], "fine_tuning", config=one_epoch, seed=seed)
        for seed in (0, 0, 1)
    ]
    first, again, other = (model[1].weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"forget": np.array([], np.int64)}, "forget set is empty"),
        ({"retain": np.array([5000])}, "5000 is out of range"),
        ({"unseen": np.array([-1])}, "-1 is out of range"),
    ],
)
def test_invalid_sets_are_refused(example: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ungan_dist.unlearn(example["model"], replace(example["data"], **changes), "ungan")


def test_a_class_missing_from_the_data_is_kept(example: dict[str, Any]) -> None:
    data = example["data"]
    without_nines = data.retain[data.labels[data.retain] != 9]
    labels = np.where(data.labels == 9, 8, data.labels)
    few = replace(data, retain=without_nines, labels=labels)
    assert ungan_dist.unlearn(example["model"], few, "random_labels")[1].out_features == 10
    with pytest.raises(ValueError, match="label 10 is out of range: the model has outputs for 0 … 9"):
        ungan_dist.unlearn(example["model"], replace(data, labels=data.labels + 1), "ungan")


def test_overlapping_sets_are_refused(example: dict[str, Any]) -> None:
    data = replace(example["data"], unseen=example["data"].forget[:3])
    with pytest.raises(ValueError, match="must not overlap"):
        ungan_dist.unlearn(example["model"], data, "ungan")


class Scaled(torch.nn.Module):
    """A model with a parameter that cannot be reinitialised."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.scale = inner, torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * self.inner(images)


def test_retrain_refuses_parameters_that_cannot_be_reinitialised(example: dict[str, Any]) -> None:
    model = Scaled(example["model"])
    with pytest.raises(ValueError, match=r"Scaled.*reset_parameters"):
        ungan_dist.unlearn(model, example["data"], "retrain")
    assert isinstance(ungan_dist.unlearn(model, example["data"], "fine_tuning"), Scaled)


def test_dropout_is_repeatable_and_does_not_change_the_global_generator(example: dict[str, Any]) -> None:
    model = torch.nn.Sequential(*example["model"], torch.nn.Dropout(0.5))
    one_epoch = replace(custom(), fine_tuning=FineTuningConfig(epochs=1))
    weights: list[torch.Tensor] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        weights.append(ungan_dist.unlearn(model, example["data"], "fine_tuning", config=one_epoch)[1].weight)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*weights)
