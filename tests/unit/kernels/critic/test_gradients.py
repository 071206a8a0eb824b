"""Compare gradients of the adversarial losses with finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from critic_inputs import (
    BATCH,
    FEATURES,
    TARGETS,
    build_network,
    make_batches,
    make_epsilon,
    make_weights,
    second_batch,
)
from torch import Tensor

from ungan_dist.kernels import CriticOptions, critic_loss, generator_loss, gradient_penalty


@pytest.mark.parametrize(
    ("penalty_of", "estimator", "surrogate"),
    [(target, "paired", "cramer") for target in TARGETS]
    + [("critic", "paired", "energy"), ("critic", "all_pairs", "cramer"), ("critic", "all_pairs", "energy")],
)
def test_gradients_of_the_weights_equal_finite_differences(penalty_of: Any, estimator: Any, surrogate: Any) -> None:
    def loss(*w: Tensor) -> Tensor:
        return critic_loss(
            w,
            *make_batches(3),
            make_epsilon(),
            CriticOptions(penalty_of=penalty_of, estimator=estimator, surrogate=surrogate),
            **second_batch(surrogate),
        )

    assert torch.autograd.gradcheck(loss, make_weights())


@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
def test_gradients_of_the_rows_equal_finite_differences(estimator: Any) -> None:
    rows = [z.requires_grad_() for z in make_batches(3, rows=2)]
    assert torch.autograd.gradcheck(
        lambda *z: generator_loss(make_weights(), *z, CriticOptions(estimator=estimator)), rows
    )
    assert torch.autograd.gradcheck(
        lambda u, f, f2: critic_loss(make_weights(), u, f, f2, make_epsilon(2), CriticOptions(penalty_weight=1.0)),
        rows,
    )


def test_the_penalty_is_differentiated_through_the_second_forget_batch() -> None:
    """Treating h'_f as a constant gives another gradient, by more than rounding."""
    w = make_weights()
    z_unseen, z_forget, z_forget2 = make_batches(3)
    ours = torch.autograd.grad(gradient_penalty(w, z_unseen, z_forget, z_forget2, make_epsilon()), w[0])[0]
    constant = build_network(w)(z_forget2).detach()
    model = build_network(w)
    mixed = (make_epsilon() * z_unseen + (1 - make_epsilon()) * z_forget).requires_grad_()
    h = model(mixed)
    slope = torch.autograd.grad(((h - constant).norm(dim=1) - h.norm(dim=1)).sum(), mixed, create_graph=True)[0]
    cut = torch.autograd.grad((slope.norm(dim=1) - 1).square().mean(), model.get_parameter("0.weight"))[0]
    assert (ours - cut).norm() > 0.01 * ours.norm()


@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
@pytest.mark.parametrize("penalty_of", TARGETS)
@pytest.mark.parametrize("case", ["same example", "every row the same", "dead critic", "zero embedding"])
def test_derivatives_are_finite_at_zero_norms(case: str, penalty_of: Any, estimator: Any) -> None:
    w = make_weights()
    z_unseen, z_forget, z_forget2 = (z.requires_grad_() for z in make_batches(3))
    if case == "same example":
        z_forget2 = z_forget
    elif case == "every row the same":
        z_unseen = z_forget = z_forget2 = torch.zeros(BATCH, FEATURES, dtype=torch.float64, requires_grad=True)
    elif case == "dead critic":
        w[1] = torch.full_like(w[1], -100).requires_grad_()
    else:
        w[4], w[5] = (torch.zeros_like(t).requires_grad_() for t in w[4:])
    loss = critic_loss(
        w,
        z_unseen,
        z_forget,
        z_forget2,
        make_epsilon(),
        CriticOptions(penalty_of=penalty_of, estimator=estimator),
    )
    moving = generator_loss(w, z_unseen, z_forget, z_forget2, CriticOptions(estimator=estimator))
    first = torch.autograd.grad(loss + moving, [*w, z_forget], create_graph=True, allow_unused=True)
    first = [gradient for gradient in first if gradient is not None]
    second = torch.autograd.grad(sum(g.square().sum() + g.sum() for g in first), w, allow_unused=True)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in first)
    assert all(gradient.isfinite().all() for gradient in second if gradient is not None)
