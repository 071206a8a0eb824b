"""UnGAN, batches and queries on fused kernels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from fused_budget import assert_within_budget
from torch import nn

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.methods.request import Request
from ungan_dist.methods.ungan.algorithm import ungan
from ungan_dist.training.evaluate import query
from ungan_dist.training.models import frozen_copy
from ungan_dist.training.world import World

TEN_STEPS = UnGANConfig(
    epochs=1, critic_steps=5, generator_steps=5, finetune_steps=0, critic_widths=(8, 7, 6), critic_learning_rate=0.05
)


def request(dtype=torch.float32, device="cpu", fused=(), seed=7):
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).to(device, dtype)
    data = Examples(
        images=torch.randint(0, 256, (40, 6, 6, 1), dtype=torch.uint8, generator=generator).to(device),
        labels=torch.randint(0, 3, (40,), generator=generator).to(device),
        table=make_normalisation_table((0.5,), (0.25,), dtype).to(device),
        num_classes=3,
        fused=frozenset(fused),
    )
    return Request(
        original=frozen_copy(model),
        fresh=model,
        data=data,
        retain=torch.arange(0, 20, device=device),
        forget=torch.arange(20, 29, device=device),
        unseen=torch.arange(29, 40, device=device),
        train=TrainConfig(batch_size=4, augment=AugmentConfig(padding=1, flip=True)),
        seed=seed,
        world=World(device=torch.device(device)),
    )


def weights(given, config=TEN_STEPS):
    return torch.cat([value.flatten() for value in ungan(given, config).model.state_dict().values()])


@pytest.mark.parametrize("critic", [("critic_loss",), ("critic_loss", "critic_sgd_step")], ids=" ".join)
def test_ten_steps_give_the_references_weights(fused_device, critic):
    exact = weights(request(torch.float64, fused_device))
    start = torch.cat([value.flatten() for value in request(torch.float64).original.state_dict().values()])
    assert float((exact - start.to(exact.device)).abs().max()) > 1e-3  # the steps change the weights
    low = weights(request(torch.float32, fused_device))
    # one run's rounding is not enough: the reference's error is the largest of four
    errors: list[float] = []
    for seed in (8, 9, 10):
        single, double = (weights(request(dtype, seed=seed)) for dtype in (torch.float32, torch.float64))
        errors.append(float((single.double() - double).abs().max()))
    fused = weights(request(torch.float32, fused_device, fused=(*critic, "generator_loss")))
    assert not torch.equal(fused, low)  # the last bits differ, so the kernels did run
    assert_within_budget(fused, low, exact, "weights after 10 steps", low_error=max(errors))


def test_options_without_a_fused_form_use_the_reference(fused_device):
    config = dataclasses.replace(TEN_STEPS, penalty_of="jacobian", estimator="all_pairs")
    fused = weights(request(device=fused_device, fused=("critic_loss", "critic_sgd_step", "generator_loss")), config)
    assert torch.equal(fused, weights(request(device=fused_device), config))


@pytest.mark.usefixtures("compiled_kernels")
def test_fused_is_refused_with_the_reason_if_it_cannot_run():
    with pytest.raises(ValueError, match="cannot run critic_loss: its tensors are on 'cpu', not on a CUDA GPU"):
        ungan(request(fused=("critic_loss",)), TEN_STEPS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
def test_batches_and_queries_through_the_fused_operations(fused_device):
    plain = request(device=fused_device)
    fused = request(device=fused_device, fused=("gather_augmented", "log_odds"))
    options = {"augment": AugmentConfig(padding=2, flip=True), "seed": 3, "epoch": 1}
    pictures = gather(fused.data, fused.retain, **options)
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pictures, gather(plain.data, plain.retain, **options))
    asked = [query(given.original, given.data, given.retain, ("plain", "flip")) for given in (fused, plain)]
    np.testing.assert_allclose(asked[0], asked[1], rtol=1e-5, atol=1e-5)
    assert asked[0].dtype == np.float32
