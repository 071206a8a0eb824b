"""Neg Grads: ascend the loss of the forget set, then repair the model on the retain set."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import NegGradsConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.optimizers import make_optimizer


def neg_grads(request: Request, config: NegGradsConfig) -> Unlearned:
    """Maximise the cross-entropy of D_f, which has no upper bound, then minimise that of D_r, both with SGD."""
    model = request.copy_original()
    optimizer = make_optimizer(torch.optim.SGD, model.parameters(), lr=config.learning_rate)
    ascent: list[float] = []
    repair: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, ascent=ascent, repair=repair)
    for epoch in epochs.iterate("ascent", config.epochs):
        loss = request.train_pass(
            model, request.forget, optimizer, epoch=epoch, purpose="neg grads", loss=_negative_cross_entropy
        )
        ascent.append(-loss)
    for epoch in epochs.iterate("repair", config.repair_epochs):
        loss = request.train_pass(model, request.retain, optimizer, epoch=epoch, purpose="neg grads, repair")
        repair.append(loss)
    return Unlearned(model=model.eval(), curves={"forget cross-entropy": ascent, "repair cross-entropy": repair})


def _negative_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -functional.cross_entropy(logits, labels)
