"""Adv. Neg Grads: descend on the retain set and ascend on the forget set in the same step."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import AdvNegGradsConfig
from ungan_dist.data.examples import gather, iterate_batches
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.batch_stream import BatchStream
from ungan_dist.training.train import take_step


def adv_neg_grads(request: Request, config: AdvNegGradsConfig) -> Unlearned:
    """Minimise CE_r − CE_f with SGD, or with ``alpha`` α·CE_r − (1 − α)·CE_f: NegGrad+ (Kurmanji et al. 2023)."""
    model = request.copy_original()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    retain_weight, forget_weight = (1.0, 1.0) if config.alpha is None else (config.alpha, 1 - config.alpha)
    batch_size, data, world = request.train.batch_size, request.data, request.world
    seed = derive_seed("adv neg grads", request.seed)
    forget_batches = BatchStream(request.forget, batch_size, seed=derive_seed("forget", seed))

    def cross_entropy(batch: Int[Tensor, " batch"], epoch: int) -> Float[Tensor, ""]:
        share = world.share(batch)
        images = gather(data, share, augment=request.train.augment, seed=derive_seed("augment", seed), epoch=epoch)
        logits, labels = forward(model, images, num_rows=len(batch)), data.labels[share]
        return world.partial_loss(lambda: functional.cross_entropy(logits, labels), len(share), len(batch), logits)

    curves: dict[str, list[float]] = {"retain cross-entropy": [], "forget cross-entropy": []}
    epochs = request.epochs(model=model, optimizer=optimizer, forget_batches=forget_batches, curves=curves)
    for epoch in epochs.iterate("adv neg grads", config.epochs):
        losses: list[Tensor] = []
        retain_batches = iterate_batches(request.retain, batch_size, seed=seed, epoch=epoch)
        for retain_batch, (forget_epoch, forget_batch) in zip(retain_batches, forget_batches, strict=False):
            retain_loss, forget_loss = cross_entropy(retain_batch, epoch), cross_entropy(forget_batch, forget_epoch)
            take_step(
                retain_weight * retain_loss - forget_weight * forget_loss,
                optimizer,
                model,
                share=len(world.share(retain_batch)) + len(world.share(forget_batch)),
                num_rows=len(retain_batch) + len(forget_batch),
                world=world,
            )
            losses.append(torch.stack([retain_loss, forget_loss]).detach())
        for curve, mean in zip(curves.values(), world.sum(torch.stack(losses).mean(dim=0)).tolist(), strict=True):
            curve.append(mean)
    return Unlearned(model=model.eval(), curves=curves)
