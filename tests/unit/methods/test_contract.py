"""One contract over every method and its variants."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any

import numpy as np
import pytest
import torch
from tiny_request import tiny_request
from torch import Tensor

from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    CFkConfig,
    FineTuningConfig,
    InfluenceConfig,
    L1SparseConfig,
    MethodConfigs,
    OriginalConfig,
    RandomLabelsConfig,
    RetrainConfig,
    SCRUBConfig,
    SSDConfig,
    UnGANBCEConfig,
    UnGANConfig,
    UnGANJointConfig,
    UNSIRConfig,
    function_path,
)
from ungan_dist.methods import Request, run_method
from ungan_dist.testing import check_method

ALL = MethodConfigs()
CONFIGS: list[Any] = [
    *(getattr(ALL, field.name) for field in dataclasses.fields(MethodConfigs) if not field.name.startswith("ungan")),
    UnGANConfig(epochs=2, critic_widths=(8, 8, 8)),
    UnGANJointConfig(epochs=2),
    UnGANBCEConfig(epochs=2, critic_widths=(8, 8), critic_steps=2, critic_pretraining=3),
    UnGANJointConfig(epochs=2, distance="critic", critic_widths=(8, 8, 8), critic_steps=2, critic_pretraining=3),
    RandomLabelsConfig(redraw=True, exclude_true=True),
    AdvNegGradsConfig(alpha=0.95),
    CFkConfig(k=2, train_classifier=False, update_frozen_statistics=True),
    UNSIRConfig(variant="mufac"),
    UNSIRConfig(variant="class", noise_steps=2, noise_copies=2),
    UNSIRConfig(impair_pass="forget"),
    SCRUBConfig(preset="small_scale"),
    SCRUBConfig(preset="mia", rewind=True),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: repr(config)[:60])


def run(request: Request, config: Any) -> dict[str, Tensor]:
    return run_method(request, config).model.state_dict()


@functools.cache
def run_tiny(config: Any) -> dict[str, Tensor]:
    """The weights after the tiny request, which several tests compare with others."""
    return run(tiny_request(), config)


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@every_config
def test_every_method_keeps_the_contract_for_methods_of_users(config: Any) -> None:
    module, _, name = function_path(config).partition(":")
    function = getattr(importlib.import_module(module), name)
    if isinstance(config, OriginalConfig):
        with pytest.raises(AssertionError, match="the method changed nothing"):
            check_method(function, config)
        return
    check_method(function, config)
    curves = run_method(tiny_request(), config).curves.values()
    assert all(np.isfinite(curve).all() for curve in curves)


@every_config
def test_the_same_seed_repeats_and_another_one_differs(config: Any) -> None:
    ours = run_tiny(config)
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002 - that the global generator does not matter is the point
    assert same(ours, run(tiny_request(), config))
    draws_nothing = isinstance(config, OriginalConfig | SSDConfig | InfluenceConfig)
    assert same(ours, run(tiny_request(seed=4), config)) == draws_nothing


@every_config
def test_global_random_state_is_unchanged(config: Any) -> None:
    """Python's random state is not compared, because the shape checker of the tests draws from it."""
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    run(tiny_request(), config)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_equal(np.random.get_state(legacy=False), numpy_before)  # noqa: NPY002


def scrambled(request: Request, keep: Tensor) -> Request:
    """The request with other pixels and labels everywhere but in one set."""
    images, labels = 255 - request.data.images, (request.data.labels + 1) % request.data.num_classes
    images[keep], labels[keep] = request.data.images[keep], request.data.labels[keep]
    return dataclasses.replace(request, data=dataclasses.replace(request.data, images=images, labels=labels))


@every_config
def test_a_method_sees_only_the_sets_it_is_entitled_to(config: Any) -> None:
    request = tiny_request()
    sets = {"retain": request.retain}
    if not isinstance(config, OriginalConfig | RetrainConfig | FineTuningConfig | CFkConfig | L1SparseConfig):
        sets["forget"] = request.forget
    if isinstance(config, UnGANConfig | UnGANJointConfig | UnGANBCEConfig) or (
        isinstance(config, SCRUBConfig) and config.rewind
    ):
        sets["unseen"] = request.unseen
    entitled = torch.cat(list(sets.values()))
    assert same(run_tiny(config), run(scrambled(request, entitled), config))


@pytest.mark.parametrize("config", [RandomLabelsConfig(), AdvNegGradsConfig(), SCRUBConfig(), UNSIRConfig()], ids=repr)
def test_the_forget_set_matters_to_methods_that_use_it(config: Any) -> None:
    request = tiny_request()
    assert not same(run(request, config), run(scrambled(request, request.retain), config))
