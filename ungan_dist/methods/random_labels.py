"""Random Labels: continue to train the original, with random labels on the forget set."""

from __future__ import annotations

import torch
from torch import nn

from ungan_dist.config.methods import RandomLabelsConfig
from ungan_dist.data.random_labels import draw_random_labels
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.optimizers import make_optimizer


def random_labels(request: Request, config: RandomLabelsConfig) -> Unlearned:
    """Minimise the cross-entropy of D_r ∪ D_f.

    Source: Golatkar et al. 2020. Labels are redrawn in SalUn (Fan et al. 2024); amnesiac unlearning (Graves et al.
    2021) draws wrong labels only.
    """
    model = request.copy_original()
    optimizer = _make_optimizer(model, config)
    sets = {"random labels": torch.cat([request.retain, request.forget])}
    if config.passes == "salun_cifar10":
        sets = {"random labels, forget": request.forget, "random labels, retain": request.retain}
    losses: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("random labels", config.epochs):
        seed = derive_seed("labels", request.seed, epoch if config.redraw else 0)
        labels = draw_random_labels(request.data, request.forget, seed, exclude_true=config.exclude_true)
        of_passes = [
            request.train_pass(model, indices, optimizer, epoch=epoch, purpose=purpose, labels=labels)
            for purpose, indices in sets.items()
        ]
        losses.append(sum(of_passes) / len(of_passes))
    return Unlearned(model=model.eval(), curves={"cross-entropy": losses})


def _make_optimizer(model: nn.Module, config: RandomLabelsConfig) -> torch.optim.Optimizer:
    parameters, rate, decay = model.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return make_optimizer(torch.optim.SGD, parameters, lr=rate, momentum=config.momentum, weight_decay=decay)
    return make_optimizer(torch.optim.AdamW, parameters, lr=rate, weight_decay=decay)
