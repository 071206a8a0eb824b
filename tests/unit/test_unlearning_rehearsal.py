"""``unlearn`` rehearses a model, refuses what the command line refuses, and does not change the model."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import misbehaving_models
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ungan_dist
from ungan_dist.config.methods import FineTuningConfig
from ungan_dist.config.recipes import custom
from ungan_dist.unlearning import ForgetData

RNG = np.random.default_rng(0)
DATA = ForgetData(
    images=RNG.integers(0, 256, (60, 8, 8, 1), np.uint8),
    labels=np.arange(60) % 3,
    forget=np.arange(10),
    retain=np.arange(10, 40),
    unseen=np.arange(40, 60),
)
CONFIG = replace(custom(), fine_tuning=FineTuningConfig(epochs=1))


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("AlwaysDropping", "random in eval mode"),
        ("Counting", "change from call to call"),
        ("AveragesInEval", "changes mean in eval mode"),
        ("CentresTheBatch", "depend on the other examples"),
        ("without_statistics", "keeps no running statistics"),
        ("Detached", "no gradient in training mode"),
        ("InPlace", "modifies its input images in place"),
        ("Whole", "returns int64"),
        ("half", r"in float16.*model\.float\(\)"),
        ("bfloat16", r"in bfloat16.*model\.float\(\)"),
        ("Reseeds", r"calls torch\.manual_seed"),
        ("HoldsItself", "a lambda or a hook that it keeps holds self"),
        ("CopiesAsItself", "shares weights with it"),
    ],
)
def test_a_model_that_an_audit_would_refuse_is_refused_and_unchanged(factory: str, words: str) -> None:
    model: nn.Module = getattr(misbehaving_models, factory)(3)
    before = described(model)
    with pytest.raises(ValueError, match=words) as refused:
        ungan_dist.unlearn(model, DATA, "fine_tuning", config=CONFIG)
    assert type(refused.value) is ValueError
    assert described(model) == before


def described(model: nn.Module) -> dict[str, Any]:
    """Everything that a caller may rely on: values, modes, gradients, hooks, types and devices."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "values": {name: value.detach().clone().float().tolist() for name, value in tensors.items()},
        "tensors": {name: (value.data_ptr(), value.dtype, value.device) for name, value in tensors.items()},
        "gradients": {name: (value.requires_grad, value.grad is None) for name, value in tensors.items()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
    }


def times_one(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * 1


@pytest.mark.parametrize("method", ["fine_tuning", "retrain", "scrub", "unsir", "ungan"])
def test_the_model_and_the_random_state_are_not_changed(method: str) -> None:
    model = misbehaving_models.batch_norm(3).train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[1].register_forward_hook(times_one)
    before, state = described(model), torch.get_rng_state()
    unlearned = ungan_dist.unlearn(model, DATA, method, config=CONFIG)
    assert described(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not unlearned.training
    assert torch.equal(unlearned[0].weight, model[0].weight)


def test_a_rehearsal_does_not_change_what_is_unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = misbehaving_models.batch_norm(3)
    rehearsed = ungan_dist.unlearn(copy.deepcopy(model), DATA, "ungan", config=CONFIG)
    monkeypatch.setattr("ungan_dist.unlearning._rehearse", lambda *arguments: None)
    alone = ungan_dist.unlearn(model, DATA, "ungan", config=CONFIG)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in rehearsed.state_dict().items())


class _AddsFloats(nn.Module):
    """Adds float32 values to its logits in a way that bfloat16 logits do not take."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.last(images.flatten(1))
        return logits.index_add(0, torch.arange(len(logits)), torch.zeros(len(logits), 3))


def test_a_model_is_rehearsed_in_the_precision_of_its_training() -> None:
    fine = ungan_dist.unlearn(_AddsFloats(), DATA, "fine_tuning", config=CONFIG)
    assert not fine.training
    config = replace(CONFIG, train=replace(CONFIG.train, precision="bf16"))
    with pytest.raises(ValueError, match=r"cannot be trained in batches of .* same scalar type"):
        ungan_dist.unlearn(_AddsFloats(), DATA, "fine_tuning", config=config)
