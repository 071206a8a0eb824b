"""ℓ1-sparse: continue to train on the retain set, with an ℓ1 penalty that falls to zero.

Source: Jia et al. 2023, *Model Sparsity Can Simplify Machine Unlearning*.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import L1SparseConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.gradients import trainable
from ungan_dist.training.optimizers import make_optimizer


def l1_sparse(request: Request, config: L1SparseConfig) -> Unlearned:
    """Minimise CE_r + α_e · ‖θ‖₁ with SGD, where α_e falls linearly from α in epoch 0 to 0."""
    model = request.copy_original()
    parameters = trainable(model)
    optimizer = make_optimizer(
        torch.optim.SGD,
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    # a captured step reads it anew
    penalty = torch.zeros((), dtype=request.data.table.dtype, device=request.device)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        norm = torch.stack([parameter.abs().sum() for parameter in parameters]).sum()
        return functional.cross_entropy(logits, labels) + penalty * norm

    losses: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, losses=losses)
    num_penalised = config.epochs - config.epochs_without_penalty
    for epoch in epochs.iterate("l1-sparse", config.epochs):
        penalty.fill_(config.alpha * max(0.0, 1 - epoch / num_penalised))
        mean = request.train_pass(model, request.retain, optimizer, epoch=epoch, purpose="l1-sparse", loss=loss)
        losses.append(mean)
    return Unlearned(model=model.eval(), curves={"retain loss": losses})
