"""Inputs that ``ungan_dist.unlearn`` accepts and refuses."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import unusual_models
from torch import Tensor, nn

import ungan_dist
from ungan_dist.config.methods import FineTuningConfig, NegGradsConfig
from ungan_dist.config.recipes import custom
from ungan_dist.unlearning import ForgetData

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 8, 8, 1), np.uint8)
DATA = ForgetData(
    images=IMAGES,
    labels=np.arange(60) % 3,
    forget=np.arange(10),
    retain=np.arange(10, 40),
    unseen=np.arange(40, 60),
)
ONE_EPOCH = replace(custom(), fine_tuning=FineTuningConfig(epochs=1))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def unlearned(data: ForgetData = DATA, model: nn.Module | None = None, method: str = "fine_tuning") -> nn.Module:
    return ungan_dist.unlearn(net() if model is None else model, data, method, config=ONE_EPOCH)


def changed(**fields: Any) -> ForgetData:
    """Call without the type checker, which only the tests have."""
    data = copy.copy(DATA)
    for name, value in fields.items():
        object.__setattr__(data, name, value)
    return data


def test_lists_tensors_and_arrays_give_the_same_sets() -> None:
    lists = {name: getattr(DATA, name).tolist() for name in ("labels", "forget", "retain", "unseen")}
    tensors = {name: torch.tensor(values) for name, values in lists.items()}
    expected = unlearned()[1].weight
    for sets in (lists, tensors):
        assert torch.equal(unlearned(replace(DATA, **sets))[1].weight, expected)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"images": IMAGES / 255}, ["float64", "uint8", "(images * 255)"]),
        ({"images": IMAGES[..., 0]}, ["(60, 8, 8)", "images[..., None]"]),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, ["(60, 1, 8, 8)", "images.transpose(0, 2, 3, 1)"]),
        ({"labels": np.arange(60) % 3 + 0.7}, ["labels", "integers", "float64"]),
        ({"labels": np.arange(60)[:, None]}, ["labels", "(60, 1)"]),
        ({"labels": np.arange(20) % 3}, ["20 labels", "60 images"]),
        ({"forget": np.arange(60) < 10}, ["forget", "bool", "np.flatnonzero"]),
        ({"forget": np.arange(10.0)}, ["forget", "float64"]),
        ({"retain": np.arange(10, 40).reshape(5, 6)}, ["retain", "(5, 6)"]),
        ({"unseen": []}, ["unseen set is empty"]),
        ({"mean": (0.5,)}, ["mean (0.5,)", "std None", "both or neither"]),
        ({"mean": (0.5,) * 3, "std": (1.0,) * 3}, ["1 channels"]),
        ({"mean": (), "std": ()}, ["1 channels"]),
        ({"mean": (0.5,), "std": (0.0,)}, ["std (0.0,)", "positive"]),
        ({"mean": (float("nan"),), "std": (1.0,)}, ["finite"]),
    ],
)
def test_data_of_another_form_is_refused(fields: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        unlearned(changed(**fields))
    assert type(refused.value) is ValueError
    for word in words:
        assert word in str(refused.value)


class _Pair(nn.Linear):
    def forward(self, input: Tensor) -> Any:
        return super().forward(input.flatten(1)), input


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Flatten(), "no parameters"),
        (net().requires_grad_(False), "every parameter of the model"),
        (unusual_models.lazy(3), "no shape yet"),
        (_Pair(64, 3), "returns tuple"),
        (nn.Conv2d(1, 3, 8), r"returns shape \(2, 3, 1, 1\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Threshold(torch.inf, torch.nan)), "not finite"),
    ],
)
def test_models_without_logits_are_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unlearned(model=model)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'magic'; known: original, retrain, .*ungan"):
        inspect.unwrap(ungan_dist.unlearn)(net(), DATA, "magic")


def test_non_finite_weights_are_not_returned() -> None:
    config = replace(custom(), neg_grads=NegGradsConfig(learning_rate=1e38))
    with pytest.raises(ValueError, match=r"neg_grads diverged.*lower the learning rate"):
        ungan_dist.unlearn(net(), DATA, "neg_grads", config=config)


def test_frozen_parameters_are_neither_trained_nor_reinitialised() -> None:
    model = unusual_models.frozen_body(3, 1)
    for method in ("fine_tuning", "retrain"):
        after = dict(unlearned(model=model, method=method).named_parameters())
        assert torch.equal(after["0.0.weight"], model[0][0].weight)
        assert not torch.equal(after["2.weight"], model[2].weight)
