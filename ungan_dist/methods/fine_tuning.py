"""Fine-Tuning: continue to train the original on the retain set."""

from __future__ import annotations

import torch

from ungan_dist.config.methods import FineTuningConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.optimizers import make_optimizer


def fine_tuning(request: Request, config: FineTuningConfig) -> Unlearned:
    """Minimise the cross-entropy of D_r with SGD, with the original's augmentation."""
    model = request.copy_original()
    optimizer = make_optimizer(torch.optim.SGD, model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    losses: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("fine-tuning", config.epochs):
        loss = request.train_pass(model, request.retain, optimizer, epoch=epoch, purpose="fine-tuning")
        losses.append(loss)
    return Unlearned(model=model.eval(), curves={"retain cross-entropy": losses})
