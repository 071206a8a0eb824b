"""The critic's loss and its weight gradients in closed form, in plain PyTorch; DERIVATION.md has the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ungan_dist.kernels.critic import reference
from ungan_dist.kernels.critic.options import CriticOptions


def supports(options: CriticOptions, *batches: Tensor) -> bool:
    """Return whether the closed form is equal to the definition, and none of the batches is differentiated."""
    if options.estimator != "paired" or options.surrogate != "cramer":
        return False
    if options.penalty_of not in ("critic", "embedding_sum"):
        return False
    return not (torch.is_grad_enabled() and any(z.requires_grad for z in batches))


def critic_loss(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    options: CriticOptions,
) -> Float[Tensor, ""]:
    """Return the critic's loss, differentiable with respect to the weights, without double backward."""
    return _Loss.apply(options, z_unseen, z_forget, z_forget2, epsilon, *weights)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        options: CriticOptions,
        z_unseen: Tensor,
        z_forget: Tensor,
        z_forget2: Tensor,
        epsilon: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        value, gradients = evaluate(
            weights, z_unseen, z_forget, z_forget2, epsilon, options, needs_gradient=needs_gradient
        )
        ctx.options, ctx.gradients = options, gradients
        ctx.save_for_backward(z_unseen, z_forget, z_forget2, epsilon, *weights)
        return value

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.gradients
        if torch.is_grad_enabled():  # create_graph: only the definition has derivatives of any order
            z_unseen, z_forget, z_forget2, epsilon, *weights = ctx.saved_tensors
            loss = reference.critic_loss(weights, z_unseen, z_forget, z_forget2, epsilon, ctx.options)
            wanted = [weight for weight in weights if weight.requires_grad]
            found = iter(torch.autograd.grad(loss, wanted, create_graph=True))
            gradients = [next(found) if weight.requires_grad else None for weight in weights]
        scaled = (None if gradient is None else gradient * arriving[0] for gradient in gradients)
        return (None, None, None, None, None, *scaled)


def evaluate(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    options: CriticOptions,
    *,
    needs_gradient: bool = True,
) -> tuple[Float[Tensor, ""], list[Tensor]]:
    """Return the loss and its six gradients; without gradients an empty list."""
    w1, b1, w2, b2, w3, b3 = weights
    batch = len(z_forget)
    r0 = torch.cat([z_unseen, z_forget, z_forget2, reference.mix(z_unseen, z_forget, epsilon, options)])
    r1 = torch.addmm(b1, r0, w1.T).relu_()
    r2 = torch.addmm(b2, r1, w2.T).relu_()
    h_unseen, h_forget, h_forget2, h_mixed = torch.addmm(b3, r2, w3.T).split(batch)
    # one norm of six differences, stacked
    differences = torch.cat(
        [h_unseen - h_forget2, h_forget, h_forget - h_forget2, h_unseen, h_mixed - h_forget2, h_mixed]
    )
    norms, inverse, units = _normalise(differences)
    apart, of_forget, between, of_unseen, _, _ = norms.split(batch)
    surrogate = (apart + of_forget - between - of_unseen).mean()
    u_apart, u_forget, u_between, u_unseen, u1, u2 = units.split(batch)
    is_critic = options.penalty_of == "critic"
    v = u1 - u2 if is_critic else torch.ones_like(h_mixed)
    m1, m2 = (r[3 * batch :] > 0 for r in (r1, r2))
    c2 = (v @ w3) * m2
    c1 = (c2 @ w2) * m1
    length, _, direction = _normalise(c1 @ w1)
    excess = length - 1
    is_squared = options.penalty == "squared"
    penalty = (excess.square() if is_squared else excess).mean()
    value = options.penalty_weight * penalty - surrogate
    if not needs_gradient:
        return value, []
    weight = options.penalty_weight / batch
    q = direction * (2 * weight * excess if is_squared else weight)
    e1 = (q @ w1.T) * m1
    e2 = (e1 @ w2.T) * m2
    p_forget2, p_mixed = (u_apart - u_between) / batch, torch.zeros_like(h_mixed)
    if is_critic:
        t = e2 @ w3.T
        i1, i2 = inverse.split(batch)[4:]
        curved1 = (t - u1 * (u1 * t).sum(1, keepdim=True)) * i1
        p_forget2 = p_forget2 - curved1
        p_mixed = curved1 - (t - u2 * (u2 * t).sum(1, keepdim=True)) * i2
    p3 = torch.cat([(u_unseen - u_apart) / batch, (u_between - u_forget) / batch, p_forget2, p_mixed])
    p2 = (p3 @ w3) * (r2 > 0)
    p1 = (p2 @ w2) * (r1 > 0)
    return value, [
        torch.addmm(c1.T @ q, p1.T, r0),
        p1.sum(0),
        torch.addmm(c2.T @ e1, p2.T, r1),
        p2.sum(0),
        torch.addmm(v.T @ e2, p3.T, r2),
        p3.sum(0),
    ]


def _normalise(rows: Float[Tensor, "rows dim"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norms, their inverses and the unit vectors of rows; all are 0 at a zero vector."""
    norms = rows.square().sum(1, keepdim=True).sqrt()
    inverse = torch.where(norms == 0, 0, 1 / norms)
    return norms, inverse, rows * inverse
