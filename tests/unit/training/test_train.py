"""The training loop is repeatable, and stacked models equal separately trained ones."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from batch_order import iterate_batches
from torch import nn
from torch.nn import functional

from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.models import build, stages
from ungan_dist.training.train import train, use_threads

CONFIG = TrainConfig(epochs=4, batch_size=16, learning_rate=0.1, weight_decay=1e-3, augment=AugmentConfig(padding=1))


def examples(dtype: torch.dtype = torch.float64) -> Examples:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8))
    return Examples(
        images=images,
        labels=torch.arange(60) % 5,
        table=make_normalisation_table((0.5,), (0.25,), dtype),
        num_classes=5,
    )


def model(seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    config = ModelConfig(width=4)
    return build(config, channels=1, num_classes=5, seed=seed, device=torch.device("cpu")).to(dtype)


def test_training_is_sgd_with_cosine_annealing_written_out() -> None:
    data, members = examples(), torch.arange(40)
    ours, theirs = model(0), model(0)
    losses = train(ours, data, members, CONFIG, seed=3)
    velocity = {name: torch.zeros_like(value) for name, value in theirs.named_parameters()}
    for epoch in range(CONFIG.epochs):
        rate = 0.1 * 0.5 * (1 + math.cos(math.pi * epoch / 4))
        step_losses = []
        for batch in iterate_batches(members, 16, seed=3, epoch=epoch):
            images = gather(data, batch, augment=CONFIG.augment, seed=derive_seed("augment", 3), epoch=epoch)
            loss = functional.cross_entropy(theirs(images), data.labels[batch])
            gradients = torch.autograd.grad(loss, list(theirs.parameters()))
            with torch.no_grad():
                for (name, weight), gradient in zip(theirs.named_parameters(), gradients, strict=True):
                    velocity[name] = 0.9 * velocity[name] + gradient + 1e-3 * weight
                    weight -= rate * velocity[name]
            step_losses.append(loss.item())
        assert losses[epoch] == pytest.approx(np.mean(step_losses), abs=1e-6)
    for ours_weight, their_weight in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours_weight, their_weight, atol=1e-12, rtol=0)
    assert not ours.training


def test_stacked_models_equal_the_same_models_alone() -> None:
    data = examples()
    sets = [torch.arange(start, start + 40) for start in (0, 10, 20)]
    config = dataclasses.replace(CONFIG, epochs=10)
    alone = [model(seed) for seed in range(3)]
    stacked = copy.deepcopy(alone)
    for one, members, seed in zip(alone, sets, range(3), strict=True):
        train(one, data, members, config, seed=seed)
    train_stacked(stacked, data, sets, config, seeds=[0, 1, 2])
    for one, among in zip(alone, stacked, strict=True):
        assert not among.training
        for name, value in one.state_dict().items():
            torch.testing.assert_close(among.state_dict()[name], value, atol=1e-9, rtol=0, msg=name)


def test_stacked_models_need_sets_of_one_size() -> None:
    sets = [torch.arange(10), torch.arange(20)]
    with pytest.raises(ValueError, match=r"one size.*\[10, 20\]"):
        train_stacked([model(0), model(1)], examples(), sets, CONFIG, seeds=[0, 1])


def test_training_is_repeatable_bit_for_bit_after_other_draws() -> None:
    data, results = examples(torch.float32), []
    for noise in (0, 1):
        torch.manual_seed(noise)
        torch.rand(noise * 7)
        one = model(0, torch.float32)
        with use_threads(1):
            train(one, data, torch.arange(40), CONFIG, seed=0)
        results.append(one.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_building_does_not_change_the_global_random_state() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    build(ModelConfig(), channels=1, num_classes=10, seed=1, device=torch.device("cpu"))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "size"), [("small_cnn", 8), ("resnet18", 32), ("resnet18_cifar", 32), ("vit_small", 16)]
)
def test_every_classifier_classifies_and_has_ordered_stages(name: str, size: int) -> None:
    config = ModelConfig(name=name)  # pyright: ignore[reportArgumentType]
    device = torch.device("cpu")
    one = build(config, channels=3, num_classes=7, seed=0, device=device, size=(size, size)).eval()
    assert one(torch.zeros(2, 3, size, size)).shape == (2, 7)
    covered = {id(parameter) for stage in stages(one) for parameter in stage.parameters()}
    assert covered == {id(parameter) for parameter in one.parameters()}
    assert any(isinstance(part, nn.Linear) for part in stages(one)[-1].modules())


def test_the_papers_model_is_torchvisions() -> None:
    one = build(ModelConfig(name="resnet18"), channels=3, num_classes=10, seed=0, device=torch.device("cpu"))
    assert sum(parameter.numel() for parameter in one.parameters()) == 11_181_642
    assert one.conv1.kernel_size == (7, 7)  # pyright: ignore
