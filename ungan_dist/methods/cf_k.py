"""CF-k: the last k stages fine-tuned on the retain set, catastrophic forgetting being hoped for; the rest frozen."""

from __future__ import annotations

import torch

from ungan_dist.config.methods import CFkConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.checkpoint import Epochs
from ungan_dist.training.models import stages, trainable_copy
from ungan_dist.training.train import pass_over


def cf_k(request: Request, config: CFkConfig) -> Unlearned:
    """SGD on the cross-entropy of D_r, over the last stages' parameters alone.

    Raises:
        ValueError: the model has fewer than k stages, or none that are known; all that is trained is frozen.

    Source: Goel et al. 2022.
    """
    model = trainable_copy(request.original, like=request.fresh)
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
            f"cf_k trains {k} of the {len(parts)} stages of {type(model).__name__}, all of whose parameters are frozen "
            f"there: raise cf_k.k, or leave cf_k out"
        )
    optimizer = torch.optim.SGD(free, lr=config.learning_rate)
    losses: list[float] = []
    epochs = Epochs(request.checkpoint, request.world, request.seed, model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.of("cf-k", config.epochs):
        loss = pass_over(
            model,
            request.data,
            request.retain,
            optimizer,
            batch_size=request.train.batch_size,
            seed=derive_seed("cf-k", request.seed),
            epoch=epoch,
            augment=request.train.augment,
            world=request.world,
        )
        losses.append(loss)
    return Unlearned(model=model.eval(), curves={"retain cross-entropy": losses})
