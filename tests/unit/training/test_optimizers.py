"""Optimizers: torch's own steps, hooks and states, without its compiler."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from ungan_dist.training.optimizers import make_optimizer

KINDS: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (torch.optim.Adam, {"lr": 0.1}),
    (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
]
every_kind = pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda one: getattr(one, "__name__", ""))

ALL_METHODS = """
import dataclasses, sys
import ungan_dist.runs.shadows, ungan_dist.runs.targets
from ungan_dist.config.methods import MethodConfigs
from ungan_dist.methods import run_method
from ungan_dist.testing import make_request
configs = MethodConfigs()
for field in dataclasses.fields(configs):
    config = getattr(configs, field.name)
    few = {name: 2 for name in ("epochs", "critic_pretraining", "critic_steps") if hasattr(config, name)}
    run_method(make_request(), dataclasses.replace(config, **few))
print("torch._dynamo" in sys.modules, "torch" in sys.modules)
"""


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.linspace(-1, 1, 12).view(4, 3)).square().sum().backward()
    optimizer.step()


def make_model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@every_kind
def test_the_steps_are_those_of_torch(kind, options):
    ours, theirs = make_model(), make_model()
    own, torchs = make_optimizer(kind, ours.parameters(), **options), kind(theirs.parameters(), **options, fused=True)
    for _ in range(3):
        step(ours, own)
        step(theirs, torchs)
    assert isinstance(own, kind)
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert not mine.grad_fn
        torch.testing.assert_close(mine, their, rtol=0, atol=0)


@every_kind
def test_the_state_continues_in_another_optimizer(kind, options):
    model = make_model()
    optimizer = make_optimizer(kind, model.parameters(), **options)
    step(model, optimizer)
    other = copy.deepcopy(model)
    continued = make_optimizer(kind, other.parameters(), **options)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(other, continued)
    for mine, their in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, their, rtol=0, atol=0)


@every_kind
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_of_model_and_optimizer_continues_alike(kind, options, copied):
    model = make_model()
    optimizer = make_optimizer(kind, model.parameters(), **options)
    step(model, optimizer)
    other, continued = copied((model, optimizer))
    assert type(continued) is type(optimizer)
    step(model, optimizer)
    step(other, continued)
    for mine, their in zip(model.parameters(), other.parameters(), strict=True):
        assert mine is not their
        torch.testing.assert_close(mine, their, rtol=0, atol=0)


@every_kind
def test_hooks_run_once_a_step(kind, options):
    model = make_model()
    optimizer = make_optimizer(kind, model.parameters(), **options)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    step(model, optimizer)
    step(model, optimizer)
    assert calls == ["before", "after"] * 2


def test_no_method_imports_the_compiler():
    done = subprocess.run([sys.executable, "-c", ALL_METHODS], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False True\n", 0), done.stderr


@pytest.mark.parametrize(("code", "is_imported"), [(None, False), ("/folder", True)])
def test_the_compiler_is_imported_for_code_of_the_user(code, is_imported):
    words = f"from ungan_dist.training.optimizers import import_compiler as one; one({code!r})"
    command = [sys.executable, "-c", f"import sys; {words}; print('torch._dynamo' in sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (f"{is_imported}\n", 0), done.stderr
