"""The critic's loss, its gradients and SGD's step as one operation, against torch.optim.SGD in float64."""

from __future__ import annotations

import pytest
import torch
from fused_budget import assert_within_budget, critic_inputs

from ungan_dist.kernels import CriticOptions, critic_loss, critic_sgd_step
from ungan_dist.kernels.self_check.guards import CANARY, POISON, guarded_buffers

OPTIONS = CriticOptions()
RATES = {"learning_rate": 0.05, "weight_decay": 0.01}


def given(batch, features, widths, dtype, device="cpu"):
    """Weights side by side in one buffer, margins around each, so that a write beyond one shows."""
    weights, batches, epsilon = critic_inputs(batch, features, widths, device=device)
    sizes = [weight.numel() for weight in weights]
    buffer = torch.full((sum(sizes) + CANARY * (len(sizes) + 1),), POISON, dtype=dtype, device=device)
    views = []
    for place, weight in enumerate(weights):
        start = CANARY * (place + 1) + sum(sizes[:place])
        views.append(buffer[start : start + sizes[place]].view(weight.shape).copy_(weight))
    return buffer, views, [z.to(dtype) for z in (*batches, epsilon)]


def optimizers_step(weights, batches, options, rates):
    """The definition: torch's own SGD on the reference's loss."""
    leaves = [weight.clone().requires_grad_() for weight in weights]
    optimizer = torch.optim.SGD(leaves, lr=rates["learning_rate"], weight_decay=rates["weight_decay"])
    loss = critic_loss(leaves, *batches, options, impl="reference")
    loss.backward()
    optimizer.step()
    return [loss.detach(), *(leaf.detach() for leaf in leaves)]


@pytest.mark.parametrize(
    ("shape", "options", "rates"),
    [
        ((1, 2, (1, 3, 2)), OPTIONS, RATES),
        ((16, 32, (32, 32, 32)), OPTIONS, RATES),
        ((17, 20, (33, 31, 35)), OPTIONS, RATES),
        ((17, 6, (7, 9, 11)), CriticOptions(penalty="as_written"), {"learning_rate": 0.1, "weight_decay": 0.0}),
        ((17, 6, (7, 9, 11)), CriticOptions(penalty_of="embedding_sum", mix_labels=False), RATES),
    ],
    ids=["tiny", "on the edges", "off the edges", "as written, no decay", "embedding sum, labels apart"],
)
def test_a_step(fused_device, shape, options, rates):
    _, weights, batches = given(*shape, torch.float64, fused_device)
    exact = optimizers_step(weights, batches, options, rates)
    buffer, weights, batches = given(*shape, torch.float32, fused_device)
    low = optimizers_step(weights, batches, options, rates)
    between = buffer == POISON
    with guarded_buffers() as buffers:
        loss = critic_sgd_step(weights, *batches, options, **rates, impl="fused")
    assert buffers
    assert torch.equal(buffer == POISON, between)
    for place, judged in enumerate(zip([loss, *weights], low, exact, strict=True)):
        # the loss is a difference of norms plus a penalty of about ten squares
        assert_within_budget(*judged, f"result {place}", magnitude=10.0 if place == 0 else 1.0)
    start = given(*shape, torch.float64, fused_device)[1]
    assert max(float((new - old).abs().max()) for new, old in zip(exact[1:], start, strict=True)) > 1e-3


def test_the_reference_is_the_optimizers_step():
    _, weights, batches = given(5, 6, (7, 9, 11), torch.float64)
    expected = optimizers_step(weights, batches, OPTIONS, RATES)
    with torch.no_grad():  # independent of the caller's mode
        loss = critic_sgd_step(weights, *batches, OPTIONS, **RATES, impl="reference")
    for ours, theirs in zip([loss, *weights], expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_leaves_that_require_gradients_are_updated_and_get_none(fused_device):
    for impl in ("reference", "fused"):
        _, weights, batches = given(5, 6, (7, 9, 11), torch.float32, fused_device)
        leaves = [weight.clone().requires_grad_() for weight in weights]
        loss = critic_sgd_step(leaves, *batches, OPTIONS, **RATES, impl=impl)
        assert not loss.requires_grad
        assert all(leaf.grad is None and leaf.requires_grad for leaf in leaves)
        assert all(not torch.equal(leaf, weight) for leaf, weight in zip(leaves, weights, strict=True))


def test_a_graph_that_needs_the_old_weights_raises(fused_device):
    """Autograd sees the change, as it sees an optimizer's."""
    _, weights, batches = given(5, 6, (7, 9, 11), torch.float32, fused_device)
    leaves = [weight.clone().requires_grad_() for weight in weights]
    before = (leaves[0] * leaves[0]).sum()
    critic_sgd_step(leaves, *batches, OPTIONS, **RATES, impl="fused")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        before.backward()


def test_refusals(fused_device):
    _, weights, batches = given(3, 4, (4, 6, 7), torch.float32, fused_device)
    with pytest.raises(ValueError, match="must be contiguous"):
        critic_sgd_step([weights[0].T, *weights[1:]], *batches, OPTIONS, **RATES, impl="fused")
    with pytest.raises(ValueError, match="embedding_norm"):
        critic_sgd_step(weights, *batches, CriticOptions(penalty_of="embedding_norm"), **RATES, impl="fused")
    for weight, same in zip(weights, given(3, 4, (4, 6, 7), torch.float32, fused_device)[1], strict=True):
        assert torch.equal(weight, same)  # a refused call changes nothing
