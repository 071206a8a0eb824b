"""Test the critic's initial weights and its input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ungan_dist.methods.ungan.critic_network import build_critic_input, init_critic


def test_initial_weights_are_distributed_as_in_torch() -> None:
    weights = init_critic(10, (128, 128, 128), seed=0, dtype=torch.float64, device=torch.device("cpu"))
    assert [list(w.shape) for w in weights] == [[128, 20], [128], [128, 128], [128], [128, 128], [128]]
    for weight, fan_in in zip(weights, [20, 20, 128, 128, 128, 128], strict=True):
        bound = fan_in**-0.5
        assert 0.95 * bound < weight.abs().max() <= bound
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = nn.Linear(128, 128).weight
    assert theirs.abs().max() <= 128**-0.5  # torch's bound
    single = init_critic(10, (128, 128, 128), seed=0, dtype=torch.float32, device=torch.device("cpu"))
    assert all(torch.equal(a.float(), b) for a, b in zip(weights, single, strict=True))


def test_the_critic_input_may_be_probabilities() -> None:
    logits, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([1])
    torch.testing.assert_close(build_critic_input(logits, labels, "softmax"), torch.tensor([[0.25, 0.75, 0.0, 1.0]]))
    assert torch.equal(build_critic_input(logits, labels, "logits"), torch.tensor([[0.0, math.log(3), 0.0, 1.0]]))
