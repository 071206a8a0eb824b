"""Definitions of the adversarial losses; autograd differentiates the penalty twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, relu

from ungan_dist.kernels.critic.options import CriticOptions
from ungan_dist.kernels.energy_distance.reference import energy_distance, mean_between, mean_within, safe_norm


def embed(weights: Sequence[Tensor], z: Float[Tensor, "batch features"]) -> Float[Tensor, "batch embedding"]:
    """D(z): three linear layers with ReLU between them."""
    w1, b1, w2, b2, w3, b3 = weights
    return linear(relu(linear(relu(linear(z, w1, b1)), w2, b2)), w3, b3)


def cramer_surrogate(
    h_unseen: Float[Tensor, "batch embedding"],
    h_forget: Float[Tensor, "batch embedding"],
    h_forget2: Float[Tensor, "batch embedding"],
) -> Float[Tensor, ""]:
    per_row = (
        safe_norm(h_unseen - h_forget2) + safe_norm(h_forget) - safe_norm(h_forget - h_forget2) - safe_norm(h_unseen)
    )
    return per_row.mean()


def energy_surrogate(
    h_unseen: Float[Tensor, "batch embedding"],
    h_unseen2: Float[Tensor, "batch embedding"],
    h_forget: Float[Tensor, "batch embedding"],
    h_forget2: Float[Tensor, "batch embedding"],
) -> Float[Tensor, ""]:
    """eq. 8 with a second unseen batch in place of the origin."""
    per_row = (
        safe_norm(h_unseen - h_forget2)
        + safe_norm(h_forget - h_unseen2)
        - safe_norm(h_forget - h_forget2)
        - safe_norm(h_unseen - h_unseen2)
    )
    return per_row.mean()


def critic_loss(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    options: CriticOptions,
    z_unseen2: Float[Tensor, "batch features"] | None = None,
) -> Float[Tensor, ""]:
    h_unseen, h_forget, h_forget2 = (embed(weights, z) for z in (z_unseen, z_forget, z_forget2))
    h_all_forget = torch.cat([h_forget, h_forget2])
    if options.estimator == "all_pairs" and options.surrogate == "energy":
        distance = energy_distance(h_unseen, h_all_forget, unbiased=True)
    elif options.estimator == "all_pairs":
        distance = (
            mean_between(h_unseen, h_all_forget)
            + safe_norm(h_all_forget).mean()
            - mean_within(h_all_forget)
            - safe_norm(h_unseen).mean()
        )
    elif z_unseen2 is not None:
        distance = energy_surrogate(h_unseen, embed(weights, z_unseen2), h_forget, h_forget2)
    else:
        distance = cramer_surrogate(h_unseen, h_forget, h_forget2)
    return -distance + options.penalty_weight * gradient_penalty(
        weights, z_unseen, z_forget, z_forget2, epsilon, options, z_unseen2
    )


def mix(
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    options: CriticOptions,
) -> Float[Tensor, "batch features"]:
    """ẑ: rows between unseen and forgotten ones, with the forgotten labels unless labels are mixed too."""
    mixed = epsilon * z_unseen + (1 - epsilon) * z_forget
    if options.mix_labels:
        return mixed
    num_outputs = mixed.shape[1] // 2
    return torch.cat([mixed[:, :num_outputs], z_forget[:, num_outputs:]], dim=1)


def gradient_penalty(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    options: CriticOptions,
    z_unseen2: Float[Tensor, "batch features"] | None = None,
) -> Float[Tensor, ""]:
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        z_mixed = mix(z_unseen, z_forget, epsilon, options).requires_grad_()
        h_mixed = embed(weights, z_mixed)
        if options.penalty_of == "critic":
            origin = 0 if z_unseen2 is None else embed(weights, z_unseen2)
            values = safe_norm(h_mixed - embed(weights, z_forget2)) - safe_norm(h_mixed - origin)
        elif options.penalty_of == "embedding_sum":
            values = h_mixed.sum(1)
        elif options.penalty_of == "embedding_norm":
            values = safe_norm(h_mixed)
        else:
            values = h_mixed
        # rows are independent, so the gradient of the sum over rows is each row's own gradient
        values = values.reshape(len(z_mixed), -1)
        slopes = [torch.autograd.grad(v.sum(), z_mixed, create_graph=True)[0] for v in values.unbind(1)]
        length = safe_norm(torch.cat(slopes, dim=1))
    excess = (length if differentiable else length.detach()) - 1
    return (excess.square() if options.penalty == "squared" else excess).mean()


def generator_loss(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    options: CriticOptions,
) -> Float[Tensor, ""]:
    h_unseen, h_forget, h_forget2 = (embed(weights, z) for z in (z_unseen, z_forget, z_forget2))
    h_all_forget = torch.cat([h_forget, h_forget2])
    if options.estimator == "all_pairs" and options.surrogate == "energy":
        return energy_distance(h_unseen, h_all_forget, unbiased=True)
    if options.estimator == "all_pairs":
        return 2 * mean_between(h_unseen, h_all_forget) - mean_within(h_all_forget)
    per_row = safe_norm(h_unseen - h_forget) + safe_norm(h_unseen - h_forget2) - safe_norm(h_forget - h_forget2)
    return per_row.mean()
