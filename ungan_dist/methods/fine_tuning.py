"""Fine-Tuning: the original trained on, on the retain set only."""

from __future__ import annotations

import torch

from ungan_dist.config.methods import FineTuningConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.checkpoint import Epochs
from ungan_dist.training.models import trainable_copy
from ungan_dist.training.train import pass_over


def fine_tuning(request: Request, config: FineTuningConfig) -> Unlearned:
    """SGD on the cross-entropy of the retain set, with the original's augmentation."""
    model = trainable_copy(request.original, like=request.fresh)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    losses: list[float] = []
    epochs = Epochs(request.checkpoint, request.world, request.seed, model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.of("fine-tuning", config.epochs):
        loss = pass_over(
            model,
            request.data,
            request.retain,
            optimizer,
            batch_size=request.train.batch_size,
            seed=derive_seed("fine-tuning", request.seed),
            epoch=epoch,
            augment=request.train.augment,
            world=request.world,
        )
        losses.append(loss)
    return Unlearned(model=model.eval(), curves={"retain cross-entropy": losses})
