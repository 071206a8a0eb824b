"""One contract over every method and its variants."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tiny_request import tiny_request
from torch import Tensor, nn

from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    CFkConfig,
    FineTuningConfig,
    MethodConfigs,
    OriginalConfig,
    RandomLabelsConfig,
    RetrainConfig,
    SCRUBConfig,
    UnGANBCEConfig,
    UnGANConfig,
    UnGANJointConfig,
    UNSIRConfig,
)
from ungan_dist.methods import Request, run_method

ALL = MethodConfigs()
CONFIGS: list[Any] = [
    *(getattr(ALL, field.name) for field in dataclasses.fields(MethodConfigs) if not field.name.startswith("ungan")),
    UnGANConfig(epochs=2, critic_widths=(8, 8, 8)),
    UnGANJointConfig(),
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


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@every_config
def test_inputs_are_unchanged_and_the_result_is_new(config: Any) -> None:
    request = tiny_request()
    before = copy.deepcopy(request)
    unlearned = run_method(request, config)
    for model, model_before in ((request.original, before.original), (request.fresh, before.fresh)):
        assert same(model.state_dict(), model_before.state_dict())
        assert model.training == model_before.training
        assert all(parameter.grad is None for parameter in model.parameters())
        flags = [parameter.requires_grad for parameter in model.parameters()]
        assert flags == [parameter.requires_grad for parameter in model_before.parameters()]
    for name in ("retain", "forget", "unseen"):
        assert torch.equal(getattr(request, name), getattr(before, name))
    for name in ("images", "labels", "table"):
        assert torch.equal(getattr(request.data, name), getattr(before.data, name))
    assert not any(module.training for module in unlearned.model.modules())
    given = {value.data_ptr() for model in (request.original, request.fresh) for value in model.state_dict().values()}
    assert not given & {value.data_ptr() for value in unlearned.model.state_dict().values()}
    changed = [
        not torch.equal(ours, theirs)
        for ours, theirs in zip(weights(unlearned.model), weights(request.original), strict=True)
    ]
    assert any(changed) != isinstance(config, OriginalConfig)
    assert all(np.isfinite(curve).all() for curve in unlearned.curves.values())


@every_config
def test_the_same_seed_repeats_and_another_one_differs(config: Any) -> None:
    ours = run(tiny_request(), config)
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002 - that the global generator does not matter is the point
    assert same(ours, run(tiny_request(), config))
    assert same(ours, run(tiny_request(seed=4), config)) == isinstance(config, OriginalConfig)


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
    if not isinstance(config, OriginalConfig | RetrainConfig | FineTuningConfig | CFkConfig):
        sets["forget"] = request.forget
    if isinstance(config, UnGANConfig | UnGANJointConfig | UnGANBCEConfig) or (
        isinstance(config, SCRUBConfig) and config.rewind
    ):
        sets["unseen"] = request.unseen
    entitled = torch.cat(list(sets.values()))
    assert same(run(request, config), run(scrambled(request, entitled), config))


@pytest.mark.parametrize("config", [RandomLabelsConfig(), AdvNegGradsConfig(), SCRUBConfig(), UNSIRConfig()], ids=repr)
def test_the_forget_set_matters_to_methods_that_use_it(config: Any) -> None:
    request = tiny_request()
    assert not same(run(request, config), run(scrambled(request, request.retain), config))
