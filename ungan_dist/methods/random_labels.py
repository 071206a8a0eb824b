"""Random Labels: continue to train the original, with random labels on the forget set."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ungan_dist.config.methods import RandomLabelsConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.optimizers import make_optimizer


def random_labels(request: Request, config: RandomLabelsConfig) -> Unlearned:
    """Minimise the cross-entropy of D_r ∪ D_f with AdamW.

    Source: Golatkar et al. 2020. Labels are redrawn in SalUn (Fan et al. 2024); amnesiac unlearning (Graves et al.
    2021) draws wrong labels only.
    """
    model = request.copy_original()
    optimizer = make_optimizer(
        torch.optim.AdamW, model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    everything = torch.cat([request.retain, request.forget])
    losses: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("random labels", config.epochs):
        labels = _draw_labels(request, config, draw=epoch if config.redraw else 0)
        losses.append(
            request.train_pass(model, everything, optimizer, epoch=epoch, purpose="random labels", labels=labels)
        )
    return Unlearned(model=model.eval(), curves={"cross-entropy": losses})


def _draw_labels(request: Request, config: RandomLabelsConfig, *, draw: int) -> Int[Tensor, " examples"]:
    """Return the data's labels, with new ones on the forget set: uniform over all classes or over the wrong ones."""
    labels, num_classes = request.data.labels.clone(), request.data.num_classes
    generator = np.random.Generator(np.random.Philox(derive_seed("labels", request.seed, draw)))
    drawn = generator.integers(int(config.exclude_true), num_classes, len(request.forget))
    drawn = torch.from_numpy(drawn).to(labels)
    labels[request.forget] = (labels[request.forget] + drawn) % num_classes if config.exclude_true else drawn
    return labels
