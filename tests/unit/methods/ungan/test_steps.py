"""Test UnGAN's single steps, their counts and its two controls."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from batch_order import cycle_batches
from torch import Tensor, nn
from ungan_request import BATCH, CLASSES, SEED, SMALL, flatten_state, make_config, make_request

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.config.training import TrainConfig
from ungan_dist.data.examples import gather
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.ungan.algorithm import count_steps, critic_step, fine_tuning_step, generator_step, ungan
from ungan_dist.methods.ungan.critic_network import init_critic
from ungan_dist.methods.ungan.sampler import Sampler


def prepare_step() -> tuple[Request, nn.Module, list[Tensor], Sampler]:
    given = make_request()
    critic = init_critic(CLASSES, (8, 7, 6), seed=0, dtype=torch.float64, device=torch.device("cpu"))
    return given, copy.deepcopy(given.original).requires_grad_(), critic, Sampler(given, SMALL)


def test_a_critic_step_changes_only_the_critic() -> None:
    _, generator, critic, draws = prepare_step()
    before = copy.deepcopy(generator.state_dict()), [weight.detach().clone() for weight in critic]
    critic_step(critic, generator, draws, torch.optim.SGD(critic, lr=0.1), SMALL)
    assert all(torch.equal(value, before[0][name]) for name, value in generator.state_dict().items())
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert not any(torch.equal(weight, then) for weight, then in zip(critic, before[1], strict=True))


def test_a_generator_step_does_not_change_the_critic() -> None:
    _, generator, critic, draws = prepare_step()
    before = copy.deepcopy(generator.state_dict()), [weight.detach().clone() for weight in critic]
    generator_step(critic, generator, draws, torch.optim.SGD(generator.parameters(), lr=0.1))
    assert all(torch.equal(weight, then) for weight, then in zip(critic, before[1], strict=True))
    assert all(weight.grad is None for weight in critic)
    assert not torch.equal(generator.state_dict()["0.weight"], before[0]["0.weight"])


def test_fine_tuning_uses_the_configured_direction_of_the_divergence() -> None:
    for direction in ("student_first", "teacher_first"):
        given, generator, _, draws = prepare_step()
        with torch.no_grad():
            next(generator.parameters()).mul_(1.5)
        _, indices = next(cycle_batches(given.retain, BATCH, seed=derive_seed("ungan", "retain", SEED)))
        seed = derive_seed("ungan augment", "retain", SEED)
        images = gather(given.data, indices, augment=given.train.augment, seed=seed)
        p, q = generator(images).softmax(1), given.original(images).softmax(1)
        a, b = (p, q) if direction == "student_first" else (q, p)
        loss = fine_tuning_step(
            generator,
            given.original,
            draws,
            torch.optim.SGD(generator.parameters(), lr=0.1),
            make_config(alpha=0.0, gamma=1.0, kl_direction=direction),
        )
        assert loss.item() == pytest.approx((a * (a / b).log()).sum(1).mean().item(), rel=1e-10)


def capture_critic(monkeypatch: pytest.MonkeyPatch, config: UnGANConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Return the critic as initialised and after a run."""
    made: list[list[Tensor]] = []

    def spy(*args: Any, **kwargs: Any) -> list[Tensor]:
        made.append(init_critic(*args, **kwargs))
        return made[-1]

    with monkeypatch.context() as patch:
        # By its module's key: the attribute ungan_dist.methods.ungan is the function of that name.
        patch.setattr(sys.modules[ungan.__module__], "init_critic", spy)
        ungan(make_request(), config)
    initial = init_critic(
        CLASSES,
        config.critic_widths,
        seed=derive_seed("ungan critic", SEED),
        dtype=torch.float64,
        device=torch.device("cpu"),
    )
    return initial, made[0]


def test_the_random_critic_control_keeps_the_initial_critic(monkeypatch: pytest.MonkeyPatch, default: Tensor) -> None:
    control = make_config(critic_steps=0)
    initial, final = capture_critic(monkeypatch, control)
    assert all(torch.equal(a, b) for a, b in zip(initial, final, strict=True))
    initial, final = capture_critic(monkeypatch, SMALL)
    assert not any(torch.equal(a, b) for a, b in zip(initial, final, strict=True))
    unlearned = ungan(make_request(), control)
    assert list(unlearned.curves) == ["generator", "fine_tuning"]
    assert not torch.equal(flatten_state(unlearned), default)


@pytest.mark.parametrize("inclusive", [False, True])
def test_the_control_without_adversary_only_fine_tunes(inclusive: bool) -> None:
    control = make_config(critic_steps=0, generator_steps=0, inclusive_loops=inclusive)
    unlearned = ungan(make_request(), control)
    given = make_request()
    generator, draws = copy.deepcopy(given.original).requires_grad_().train(), Sampler(given, control)
    optimizer = torch.optim.Adam(
        generator.parameters(), lr=control.learning_rate, weight_decay=control.weight_decay, fused=True
    )
    for _ in range(12 if inclusive else 6):
        fine_tuning_step(generator, given.original, draws, optimizer, control)
    assert torch.equal(flatten_state(unlearned), flatten_state(Unlearned(model=generator, curves={})))
    assert list(unlearned.curves) == ["fine_tuning"]
    # neither the forget set nor the unseen set is used
    other = make_request(forget=torch.arange(29, 38), unseen=torch.arange(20, 29))
    assert torch.equal(flatten_state(ungan(other, control)), flatten_state(unlearned))


def test_steps_follow_from_the_sizes_of_the_sets() -> None:
    paper = make_request(retain=torch.arange(21375), forget=torch.arange(1125), train=TrainConfig(batch_size=256))
    assert count_steps(paper, UnGANConfig()) == (8, 4, 4, 88)
    assert count_steps(paper, UnGANConfig(inclusive_loops=True)) == (9, 5, 5, 89)
    assert count_steps(paper, UnGANConfig(batch_size=4096)) == (8, 1, 1, 6)
    assert count_steps(paper, UnGANConfig(critic_steps=0, inclusive_loops=True)) == (9, 0, 5, 89)
