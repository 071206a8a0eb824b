"""Adv. Neg Grads: descend on the retain set and ascend on the forget set in the same step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import AdvNegGradsConfig
from ungan_dist.data.examples import draw_pass, gather_rows
from ungan_dist.data.rows import Rows, split_pass
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.batch_stream import BatchStream
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.train import take_step


def adv_neg_grads(request: Request, config: AdvNegGradsConfig) -> Unlearned:
    """Minimise CE_r − CE_f with SGD, or with ``alpha`` α·CE_r − (1 − α)·CE_f: NegGrad+ (Kurmanji et al. 2023)."""
    model = request.copy_original()
    optimizer = make_optimizer(torch.optim.SGD, model.parameters(), lr=config.learning_rate)
    retain_weight, forget_weight = (1.0, 1.0) if config.alpha is None else (config.alpha, 1 - config.alpha)
    batch_size, data, world = request.train.batch_size, request.data, request.world
    seed = derive_seed("adv neg grads", request.seed)
    augment, augment_seed = request.train.augment, derive_seed("augment", seed)
    forget_batches = BatchStream(
        data, request.forget, batch_size,
        seed=derive_seed("forget", seed), augment=augment, augment_seed=augment_seed,
    )  # fmt: skip

    def cross_entropy(batch: Rows) -> Float[Tensor, ""]:
        share = world.share(batch)
        logits = forward(model, gather_rows(data, share), num_rows=len(batch))
        labels = data.labels[share.indices]
        return world.partial_loss(lambda: functional.cross_entropy(logits, labels), len(share), len(batch), logits)

    def step(retain_batch: Rows, forget_batch: Rows) -> Float[Tensor, 2]:
        retain_loss, forget_loss = cross_entropy(retain_batch), cross_entropy(forget_batch)
        take_step(
            retain_weight * retain_loss - forget_weight * forget_loss,
            optimizer,
            model,
            share=len(world.share(retain_batch)) + len(world.share(forget_batch)),
            num_rows=len(retain_batch) + len(forget_batch),
            world=world,
        )
        return torch.stack([retain_loss, forget_loss]).detach()

    curves: dict[str, list[float]] = {"retain cross-entropy": [], "forget cross-entropy": []}
    epochs = request.epochs(model=model, optimizer=optimizer, forget_batches=forget_batches, curves=curves)
    for epoch in epochs.iterate("adv neg grads", config.epochs):
        losses: list[Tensor] = []
        drawn = draw_pass(data, request.retain, seed=seed, epoch=epoch, augment=augment)
        retain_batches = (drawn[batch] for batch in split_pass(len(drawn), batch_size))
        request.prepare(optimizer)
        for retain_batch, forget_batch in zip(retain_batches, forget_batches, strict=False):
            losses.append(request.take_step("adv neg grads", step, retain_batch, forget_batch))
        for curve, mean in zip(curves.values(), world.sum(torch.stack(losses).mean(dim=0)).tolist(), strict=True):
            curve.append(mean)
    return Unlearned(model=model.eval(), curves=curves)
