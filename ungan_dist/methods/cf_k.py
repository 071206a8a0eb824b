"""CF-k: fine-tune the last k stages on the retain set and freeze the rest, relying on catastrophic forgetting."""

from __future__ import annotations

import torch

from ungan_dist.config.methods import CFkConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.models import stages
from ungan_dist.training.optimizers import make_optimizer


def cf_k(request: Request, config: CFkConfig) -> Unlearned:
    """Minimise the cross-entropy of D_r with SGD over the parameters of the last stages.

    Raises:
        ValueError: fewer than k stages, no known stages, or no trainable parameter in the last k.

    Source: Goel et al. 2022.
    """
    model = request.copy_original()
    parts = stages(model)
    k = len(parts) // 2 if config.k is None else config.k
    if k > len(parts):
        raise ValueError(f"cf_k.k {k} exceeds the {len(parts)} stages of {type(model).__name__}: lower it")
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    model.requires_grad_(False)
    if not config.update_frozen_statistics:
        model.eval()
    for part in parts[-k:] if config.train_classifier else parts[-k:-1]:
        for parameter in part.train().parameters():
            parameter.requires_grad_(parameter in trainable)
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not free:
        raise ValueError(
            f"cf_k trains {k} of the {len(parts)} stages of {type(model).__name__}, and all of them are frozen: "
            f"raise cf_k.k, or leave cf_k out"
        )
    optimizer = make_optimizer(torch.optim.SGD, free, lr=config.learning_rate)
    losses: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("cf-k", config.epochs):
        loss = request.train_pass(model, request.retain, optimizer, epoch=epoch, purpose="cf-k")
        losses.append(loss)
    return Unlearned(model=model.eval(), curves={"retain cross-entropy": losses})
