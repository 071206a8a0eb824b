"""UnGAN with binary cross-entropy: its steps by hand, its control, and an empty set."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tiny_request import tiny_request
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import UnGANBCEConfig
from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import gather
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods import Request, run_method
from ungan_dist.methods.ungan.bce import OutputClassifier

SMALL = UnGANBCEConfig(
    epochs=1, steps=1, critic_steps=0, critic_pretraining=0, critic_widths=(7, 6), learning_rate=0.01
)


def plain_request(**changes: Any) -> Request:
    """Every batch is its whole set, so that its order does not matter."""
    given = tiny_request()
    size = max(len(given.retain), len(given.forget), len(given.unseen))
    train = dataclasses.replace(given.train, batch_size=size, augment=AugmentConfig())
    retain = given.retain[torch.arange(size) % len(given.retain)]
    return dataclasses.replace(given, train=train, retain=retain, **changes)


def initial_critic(given: Request) -> OutputClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed("ungan bce critic", given.seed))
        return OutputClassifier(given.data.num_classes, SMALL).double()


def flatten(model: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def adam_step(weights: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """Adam's first step: both moments are those of this one gradient."""
    return weights - rate * gradient / (gradient.abs() + 1e-8)


def gradient_of(loss: Tensor, model: torch.nn.Module) -> Tensor:
    return torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.parameters()))])


def adversarial_loss(critic: OutputClassifier, outputs: Tensor, labels: Tensor) -> Tensor:
    """The negative log of the share that the critic gives to "unseen"."""
    return -critic(outputs, labels).sigmoid().log().mean()


def test_the_joint_step_is_adversarial_loss_and_a_tenth_of_cross_entropy_in_one() -> None:
    given = plain_request()
    ours = run_method(given, SMALL).model
    model, labels = given.copy_original().train(), given.data.labels
    outputs = model(gather(given.data, torch.cat([given.retain, given.forget])))
    retain, forget = outputs.split([len(given.retain), len(given.forget)])
    loss = adversarial_loss(initial_critic(given), forget, labels[given.forget])
    loss = loss + functional.cross_entropy(retain, labels[given.retain]) / 10
    expected = adam_step(flatten(model), gradient_of(loss, model), 0.01)
    torch.testing.assert_close(flatten(ours), expected, rtol=1e-6, atol=1e-8)


def test_a_trained_critic_tells_forgotten_from_unseen_outputs_before_the_model_moves() -> None:
    given = plain_request()
    labels = given.data.labels
    critic = initial_critic(given)
    with torch.no_grad():
        unseen, forget = (given.original(gather(given.data, some)) for some in (given.unseen, given.forget))
    loss = adversarial_loss(critic, unseen, labels[given.unseen])
    loss = loss - (1 - critic(forget, labels[given.forget]).sigmoid()).log().mean()
    stepped = adam_step(flatten(critic), gradient_of(loss, critic), 0.05)
    torch.nn.utils.vector_to_parameters(stepped, critic.parameters())
    curve = run_method(given, dataclasses.replace(SMALL, critic_pretraining=1, critic_learning_rate=0.05)).curves
    assert curve["critic"] == pytest.approx([loss.item()], rel=1e-9)
    model = given.copy_original().train()
    outputs = model(gather(given.data, torch.cat([given.retain, given.forget])))[len(given.retain) :]
    with torch.no_grad():
        expected = adversarial_loss(critic, outputs, labels[given.forget]).item()
    assert curve["generator"] == pytest.approx([expected], rel=1e-6)


def test_the_control_has_no_curve_of_a_critic() -> None:
    assert run_method(plain_request(), SMALL).curves.keys() == {"generator", "fine_tuning"}


@pytest.mark.parametrize("name", ["retain", "forget", "unseen"])
def test_an_empty_set_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        run_method(dataclasses.replace(tiny_request(), **{name: torch.arange(0)}), SMALL)
