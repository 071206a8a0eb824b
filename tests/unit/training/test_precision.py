"""Precision, memory format and fused optimizers of a training."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import assert_refused, run_command
from torch import Tensor, nn, optim

from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.training import world as worlds
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.evaluate import query
from ungan_dist.training.models import build, is_channels_last, use_memory_format
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.precision import use_precision
from ungan_dist.training.train import train
from ungan_dist.training.world import World

CONFIG = TrainConfig(epochs=2, batch_size=16, learning_rate=0.05, augment=AugmentConfig(padding=1, flip=True))
CNN = ModelConfig(width=4)
MEMBERS = torch.arange(40)


def examples(dtype: torch.dtype = torch.float32, *, channels_last: bool = False) -> Examples:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    table = make_normalisation_table((0.5,) * 3, (0.25,) * 3, dtype)
    labels = torch.arange(60) % 5
    return Examples(
        images=torch.from_numpy(images), labels=labels, table=table, num_classes=5, channels_last=channels_last
    )


def model(seed: int = 0, config: ModelConfig = CNN) -> nn.Module:
    return build(config, channels=3, num_classes=5, seed=seed, device=torch.device("cpu"))


def weights(one: nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in one.state_dict().values()])


def test_auto_is_channels_last_for_our_convolutions_and_leaves_a_users_model() -> None:
    assert is_channels_last(model(), CNN, "auto")
    assert not is_channels_last(model(), CNN, "contiguous")
    narrow = ModelConfig(width=1)
    assert not is_channels_last(
        build(narrow, channels=1, num_classes=5, seed=0, device=torch.device("cpu")), narrow, "auto"
    )
    own = ModelConfig(factory="models:build")
    assert not is_channels_last(model(), own, "auto")
    assert is_channels_last(model(), own, "channels_last")


def test_channels_last_reaches_every_convolution_and_changes_rounding_alone() -> None:
    plain, last = model().double(), use_memory_format(model().double(), CNN, "auto")
    seen: list[bool] = []
    for layer in last.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda _layer, inputs, output: seen.extend(
                    one.is_contiguous(memory_format=torch.channels_last) for one in (inputs[0], output)
                )
            )
    train(plain, examples(torch.float64), MEMBERS, CONFIG, seed=1)
    train(last, examples(torch.float64, channels_last=True), MEMBERS, CONFIG, seed=1)
    assert seen
    assert all(seen)
    torch.testing.assert_close(weights(last), weights(plain), rtol=0, atol=1e-10)


def test_bf16_computes_in_bfloat16_with_float32_weights_and_evaluates_in_float32() -> None:
    full, half = model(), model()
    data, types = examples(), set()
    convolution = next(layer for layer in half.modules() if isinstance(layer, nn.Conv2d))
    convolution.register_forward_hook(lambda _layer, _inputs, output: types.add(output.dtype))
    losses = train(full, data, MEMBERS, CONFIG, seed=1)
    with use_precision("bf16"):
        rounded = train(half, data, MEMBERS, CONFIG, seed=1)
        assert types == {torch.bfloat16}
        types.clear()
        log_odds = query(half, data, MEMBERS, ("plain",))
    assert types == {torch.float32}
    assert {value.dtype for value in half.parameters()} == {torch.float32}
    assert rounded != losses
    np.testing.assert_allclose(rounded, losses, rtol=0.02)
    assert (log_odds == query(half, data, MEMBERS, ("plain",))).all()
    # eight bits of significand, in every one of six steps
    assert float((weights(half) - weights(full)).norm() / weights(full).norm()) < 0.02


def test_stacked_models_train_in_bfloat16_too() -> None:
    alone, stacked = [model(0), model(1)], [model(0), model(1)]
    with use_precision("bf16"):
        for seed, one in enumerate(alone):
            train(one, examples(), MEMBERS, CONFIG, seed=seed)
        train_stacked(stacked, examples(), [MEMBERS, MEMBERS], CONFIG, seeds=[0, 1])
    for one, among in zip(alone, stacked, strict=True):
        assert float((weights(one) - weights(among)).norm() / weights(one).norm()) < 0.02


@pytest.mark.parametrize("precision", ["fp32", "bf16", "tf32"])
def test_a_precision_sets_tf32_on_a_gpu_and_restores_torchs_default(precision: Any) -> None:
    def current() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = current()
    assert before == (False, True)
    with use_precision(precision):
        assert current() == (precision == "tf32",) * 2
        with use_precision("fp32"):
            assert current() == (False, False)
        assert current() == (precision == "tf32",) * 2
    assert current() == before


def test_tf32_is_refused_without_a_gpu(tmp_path: Path) -> None:
    result = run_command("plan", "digits", "--train.precision", "tf32", "--output", tmp_path)
    assert_refused(result, "train.precision tf32 needs a GPU", "use fp32 or bf16")


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
def test_a_fused_optimizer_takes_the_steps_of_the_plain_one(kind: Any) -> None:
    options = {"lr": 0.1, "weight_decay": 0.01} | ({"momentum": 0.9} if kind is optim.SGD else {})
    ours = use_memory_format(model().double(), CNN, "channels_last")
    theirs = copy.deepcopy(ours)
    steps = make_optimizer(kind, ours.parameters(), **options), kind(theirs.parameters(), **options, foreach=False)
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        for one, optimizer in zip((ours, theirs), steps, strict=True):
            optimizer.zero_grad()
            one(images).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=1e-12)


def test_summed_gradients_have_the_strides_that_a_fused_step_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with the same rows: the sum is twice the gradient."""
    monkeypatch.setattr(worlds.distributed, "all_reduce", lambda flat: flat.mul_(2))
    one = use_memory_format(model(), CNN, "channels_last")
    one(torch.randn(6, 3, 8, 8)).square().mean().backward()
    parameters = list(one.parameters())
    expected = [2 * parameter.grad for parameter in parameters if parameter.grad is not None]
    World(size=2).reduce(parameters, share=3, num_rows=6)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()
        assert torch.equal(parameter.grad, gradient)


def test_precision_and_format_are_part_of_a_runs_identity() -> None:
    from ungan_dist.config.identity import run_hash
    from ungan_dist.config.recipes import digits

    before = digits()
    for change in ({"precision": "bf16"}, {"memory_format": "contiguous"}):
        changed = dataclasses.replace(before, train=dataclasses.replace(before.train, **change))
        assert run_hash(changed, "data") != run_hash(before, "data")
