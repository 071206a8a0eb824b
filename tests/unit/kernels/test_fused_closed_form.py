"""The mathematics behind the fused critic, before any kernel: closed form against autograd's double backward."""

from __future__ import annotations

import pytest
import torch

from ungan_dist.kernels import CriticOptions
from ungan_dist.kernels.critic import reference


def unit(x):
    """x / ‖x‖ and 1 / ‖x‖, both 0 where x is 0."""
    norm = x.norm(dim=1, keepdim=True)
    inverse = torch.where(norm > 0, 1 / norm, 0)
    return x * inverse, inverse


def closed_form(weights, z_u, z_f, z_f2, epsilon, penalty, penalty_of, penalty_weight):
    """Loss and its six gradients, step by step as kernels/critic/DERIVATION.md numbers them."""
    w1, b1, w2, b2, w3, b3 = weights
    batch = len(z_f)
    r0 = torch.cat([z_u, z_f, z_f2, epsilon * z_u + (1 - epsilon) * z_f])
    r1 = (r0 @ w1.T + b1).relu()
    r2 = (r1 @ w2.T + b2).relu()
    h_u, h_f, h_f2, h_x = (r2 @ w3.T + b3).split(batch)
    (u_u2, _), (u_f, _), (u_ff2, _), (u_u, _) = unit(h_u - h_f2), unit(h_f), unit(h_f - h_f2), unit(h_u)
    surrogate = ((h_u - h_f2).norm(dim=1) + h_f.norm(dim=1) - (h_f - h_f2).norm(dim=1) - h_u.norm(dim=1)).mean()

    (u1, i1), (u2, i2) = unit(h_x - h_f2), unit(h_x)
    v = u1 - u2 if penalty_of == "critic" else torch.ones_like(h_x)
    m1, m2 = (r1 > 0)[3 * batch :], (r2 > 0)[3 * batch :]
    c2 = m2 * (v @ w3)
    c1 = m1 * (c2 @ w2)
    direction, _ = unit(c1 @ w1)
    length = (c1 @ w1).norm(dim=1, keepdim=True)
    excess = length - 1
    value = -surrogate + penalty_weight * (excess.square() if penalty == "squared" else excess).mean()

    q = direction * penalty_weight / batch * (2 * excess if penalty == "squared" else 1)
    e1 = m1 * (q @ w1.T)
    e2 = m2 * (e1 @ w2.T)
    t = e2 @ w3.T
    curved1 = (t - u1 * (u1 * t).sum(1, keepdim=True)) * i1 * (penalty_of == "critic")
    curved2 = (t - u2 * (u2 * t).sum(1, keepdim=True)) * i2 * (penalty_of == "critic")
    p3 = torch.cat([(u_u - u_u2) / batch, (u_ff2 - u_f) / batch, (u_u2 - u_ff2) / batch - curved1, curved1 - curved2])
    p2 = (r2 > 0) * (p3 @ w3)
    p1 = (r1 > 0) * (p2 @ w2)
    gradients = [
        p1.T @ r0 + c1.T @ q,
        p1.sum(0),
        p2.T @ r1 + c2.T @ e1,
        p2.sum(0),
        p3.T @ r2 + v.T @ e2,
        p3.sum(0),
    ]
    return value, gradients


@pytest.mark.parametrize("penalty", ["squared", "as_written"])
@pytest.mark.parametrize("penalty_of", ["critic", "embedding_sum"])
@pytest.mark.parametrize("meeting", [False, True], ids=["apart", "meeting"])
def test_closed_form_is_the_double_backward(penalty, penalty_of, meeting):
    """``meeting``: x_f = x'_f, ε at both its ends, so that norms vanish inside the surrogate and the penalty."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 12), (24,), (16, 24), (16,), (20, 16), (20,)]
    weights = [(torch.randn(shape, generator=generator, dtype=torch.float64) / 3).requires_grad_() for shape in shapes]
    z_u, z_f, z_f2 = torch.randn(3, 9, 12, generator=generator, dtype=torch.float64)
    epsilon = torch.rand(9, 1, generator=generator, dtype=torch.float64)
    if meeting:
        z_f2[::2], epsilon[0], epsilon[1], epsilon[2] = z_f[::2], 0, 1, 0
    options = CriticOptions(penalty=penalty, penalty_of=penalty_of)
    loss = reference.critic_loss(weights, z_u, z_f, z_f2, epsilon, options)
    with torch.no_grad():
        value, gradients = closed_form(weights, z_u, z_f, z_f2, epsilon, penalty, penalty_of, 10.0)
    torch.testing.assert_close(value, loss.detach(), rtol=1e-12, atol=1e-12)
    for mine, autograds in zip(gradients, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(mine, autograds, rtol=1e-12, atol=1e-12)
