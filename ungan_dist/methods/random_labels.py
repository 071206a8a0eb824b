"""Random Labels: the original trained on, its forget set under labels drawn at random."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ungan_dist.config.methods import RandomLabelsConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.checkpoint import Epochs
from ungan_dist.training.models import trainable_copy
from ungan_dist.training.train import pass_over


def random_labels(request: Request, config: RandomLabelsConfig) -> Unlearned:
    """AdamW on the cross-entropy of D_r ∪ D_f.

    Source: Golatkar et al. 2020; redrawn labels as in SalUn (Fan et al. 2024), wrong ones only as in amnesiac
    unlearning (Graves et al. 2021).
    """
    model = trainable_copy(request.original, like=request.fresh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    losses: list[float] = []
    epochs = Epochs(request.checkpoint, request.world, request.seed, model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.of("random labels", config.epochs):
        loss = pass_over(
            model,
            request.data,
            torch.cat([request.retain, request.forget]),
            optimizer,
            batch_size=request.train.batch_size,
            seed=derive_seed("random labels", request.seed),
            epoch=epoch,
            augment=request.train.augment,
            world=request.world,
            labels=_drawn_labels(request, config, draw=epoch if config.redraw else 0),
        )
        losses.append(loss)
    return Unlearned(model=model.eval(), curves={"cross-entropy": losses})


def _drawn_labels(request: Request, config: RandomLabelsConfig, *, draw: int) -> Int[Tensor, " examples"]:
    """The data's labels with the forget set's drawn anew, uniform over all classes or over the wrong ones."""
    labels, num_classes = request.data.labels.clone(), request.data.num_classes
    generator = np.random.Generator(np.random.Philox(derive_seed("labels", request.seed, draw)))
    drawn = generator.integers(int(config.exclude_true), num_classes, len(request.forget))
    drawn = torch.from_numpy(drawn).to(labels)
    labels[request.forget] = (labels[request.forget] + drawn) % num_classes if config.exclude_true else drawn
    return labels
