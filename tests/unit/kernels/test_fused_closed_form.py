"""The critic's closed form, the default reference, against autograd's double backward of the definition."""

from __future__ import annotations

import pytest
import torch

from ungan_dist.kernels import CriticOptions, critic_loss
from ungan_dist.kernels.critic import closed_form, reference


@pytest.mark.parametrize("penalty", ["squared", "as_written"])
@pytest.mark.parametrize("penalty_of", ["critic", "embedding_sum"])
@pytest.mark.parametrize("mix_labels", [True, False], ids=["mixed", "labels kept"])
@pytest.mark.parametrize("meeting", [False, True], ids=["apart", "meeting"])
def test_closed_form_is_the_double_backward(penalty, penalty_of, mix_labels, meeting):
    """``meeting``: x_f = x'_f, ε at both its ends, so that norms vanish inside the surrogate and the penalty."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 12), (24,), (16, 24), (16,), (20, 16), (20,)]
    weights = [(torch.randn(shape, generator=generator, dtype=torch.float64) / 3).requires_grad_() for shape in shapes]
    z_u, z_f, z_f2 = torch.randn(3, 9, 12, generator=generator, dtype=torch.float64)
    epsilon = torch.rand(9, 1, generator=generator, dtype=torch.float64)
    if meeting:
        z_f2[::2], epsilon[0], epsilon[1], epsilon[2] = z_f[::2], 0, 1, 0
    options = CriticOptions(penalty=penalty, penalty_of=penalty_of, mix_labels=mix_labels)
    loss = reference.critic_loss(weights, z_u, z_f, z_f2, epsilon, options)
    assert closed_form.supports(options, z_u, z_f, z_f2, epsilon)
    value = critic_loss(weights, z_u, z_f, z_f2, epsilon, options, impl="reference")
    gradients = torch.autograd.grad(2 * value, weights)
    with torch.no_grad():
        without = critic_loss(weights, z_u, z_f, z_f2, epsilon, options, impl="reference")
    torch.testing.assert_close(without, value.detach(), rtol=0, atol=0)
    torch.testing.assert_close(value.detach(), loss.detach(), rtol=1e-12, atol=1e-12)
    for mine, autograds in zip(gradients, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(mine, 2 * autograds, rtol=1e-12, atol=1e-12)


def test_a_second_derivative_is_that_of_the_definition():
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 4), (5,), (6, 5), (6,), (7, 6), (7,)]
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    z = torch.randn(3, 3, 4, generator=generator, dtype=torch.float64)
    epsilon = torch.rand(3, 1, generator=generator, dtype=torch.float64)
    seconds = []
    for loss in (
        critic_loss(weights, *z, epsilon, impl="reference"),
        reference.critic_loss(weights, *z, epsilon, CriticOptions()),
    ):
        first = torch.autograd.grad(loss, weights, create_graph=True)
        seconds.append(torch.autograd.grad(sum(gradient.square().sum() for gradient in first), weights))
    for mine, autograds in zip(*seconds, strict=True):
        torch.testing.assert_close(mine, autograds, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        CriticOptions(estimator="all_pairs"),
        CriticOptions(surrogate="energy"),
        CriticOptions(penalty_of="jacobian"),
        CriticOptions(penalty_of="embedding_norm"),
    ],
)
def test_other_options_take_the_definition(options):
    z = torch.zeros(3, 4)
    assert not closed_form.supports(options, z)
    assert not closed_form.supports(CriticOptions(), z.requires_grad_())
