"""Neg Grads: the original pushed uphill on the forget set, then repaired on the retain set."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import NegGradsConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.checkpoint import Epochs
from ungan_dist.training.models import trainable_copy
from ungan_dist.training.train import pass_over


def neg_grads(request: Request, config: NegGradsConfig) -> Unlearned:
    """SGD that maximises the cross-entropy of D_f, which has no upper bound; then minimises that of D_r."""
    model = trainable_copy(request.original, like=request.fresh)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    ascent: list[float] = []
    repair: list[float] = []
    epochs = Epochs(
        request.checkpoint, request.world, request.seed, model=model, optimizer=optimizer, ascent=ascent, repair=repair
    )
    for epoch in epochs.of("ascent", config.epochs):
        loss = pass_over(
            model,
            request.data,
            request.forget,
            optimizer,
            batch_size=request.train.batch_size,
            seed=derive_seed("neg grads", request.seed),
            epoch=epoch,
            augment=request.train.augment,
            world=request.world,
            loss_of=_negative_cross_entropy,
        )
        ascent.append(-loss)
    for epoch in epochs.of("repair", config.repair_epochs):
        loss = pass_over(
            model,
            request.data,
            request.retain,
            optimizer,
            batch_size=request.train.batch_size,
            seed=derive_seed("neg grads, repair", request.seed),
            epoch=epoch,
            augment=request.train.augment,
            world=request.world,
        )
        repair.append(loss)
    return Unlearned(model=model.eval(), curves={"forget cross-entropy": ascent, "repair cross-entropy": repair})


def _negative_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -functional.cross_entropy(logits, labels)
