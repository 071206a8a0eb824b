"""Steps of the fused operations and of their references: a value and its gradients, on random inputs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ungan_dist.kernels import critic_loss, critic_sgd_step, energy_distance, gather_augmented, generator_loss, log_odds
from ungan_dist.kernels.critic import reference
from ungan_dist.kernels.critic.options import CriticOptions
from ungan_dist.kernels.impl import Impl

sys.path.append(str(Path(__file__).parents[1] / "tests/helpers"))

from fused_budget import critic_inputs

Step = Callable[[], tuple[Tensor, ...]]


def critic_step(impl: Impl | Literal["definition"], width: int, batch: int, device: str) -> Step:
    """Make a step: one critic loss and its six gradients, in the definition by double backward."""
    weights, batches, epsilon = critic_inputs(batch, 20, (width, width, width), device=device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    z_unseen, z_forget, z_forget2, epsilon = (z.float() for z in (*batches, epsilon))

    def step() -> tuple[Tensor, ...]:
        if impl == "definition":
            loss = reference.critic_loss(leaves, z_unseen, z_forget, z_forget2, epsilon, CriticOptions())
        else:
            loss = critic_loss(leaves, z_unseen, z_forget, z_forget2, epsilon, impl=impl)
        return (loss.detach(), *torch.autograd.grad(loss, leaves))

    return step


def critic_update(impl: Impl, width: int, batch: int, device: str) -> Step:
    """Make a step: the critic's loss, its gradients and the SGD update. The reference uses torch's SGD."""
    weights, batches, epsilon = critic_inputs(batch, 20, (width, width, width), device=device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    rows = [z.float() for z in (*batches, epsilon)]
    rates = {"learning_rate": 1e-3, "weight_decay": 5e-4}
    if impl == "fused":
        return lambda: (critic_sgd_step(leaves, *rows, **rates, impl=impl), *(w.detach() for w in leaves))
    optimizer = torch.optim.SGD(leaves, lr=rates["learning_rate"], weight_decay=rates["weight_decay"])

    def step() -> tuple[Tensor, ...]:
        optimizer.zero_grad(set_to_none=True)
        loss = critic_loss(leaves, *rows, impl=impl)
        loss.backward()
        optimizer.step()
        return (loss.detach(), *(w.detach() for w in leaves))

    return step


def generator_step(impl: Impl, width: int, batch: int, device: str) -> Step:
    """Make a step: one generator loss and its gradients for the two forget batches, as in UnGAN."""
    weights, batches, _ = critic_inputs(batch, 20, (width, width, width), device=device)
    frozen = [weight.float() for weight in weights]
    z_unseen, *forget = (z.float() for z in batches)
    leaves = [z.requires_grad_() for z in forget]

    def step() -> tuple[Tensor, ...]:
        loss = generator_loss(frozen, z_unseen, *leaves, impl=impl)
        return (loss.detach(), *torch.autograd.grad(loss, leaves))

    return step


def energy_step(impl: Impl, size: int, dim: int, device: str) -> Step:
    """Make a step: one energy distance and both of its gradients."""
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(size, dim, generator=generator).to(device).requires_grad_() for _ in range(2)]

    def step() -> tuple[Tensor, ...]:
        value = energy_distance(*leaves, impl=impl)
        return (value.detach(), *torch.autograd.grad(value, leaves))

    return step


def augment_step(impl: Impl, batch: int, device: str) -> Step:
    """Make a step: one augmented batch of 32 × 32 colour images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1024, 32, 32, 3), dtype=torch.uint8, generator=generator).to(device)
    indices = torch.randint(0, 1024, (batch,), generator=generator).to(device)
    table = torch.linspace(-1, 1, 768).view(256, 3).to(device)
    return lambda: (gather_augmented(images, indices, table, seed=1, epoch=0, padding=4, flip=True, impl=impl),)


def log_odds_step(impl: Impl, models: int, batch: int, classes: int, device: str) -> Step:
    """Make a step: log-odds of many models at once."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(models, batch, classes, generator=generator).to(device)
    labels = torch.randint(0, classes, (batch,), generator=generator).to(device)
    return lambda: (log_odds(logits, labels, impl=impl),)
