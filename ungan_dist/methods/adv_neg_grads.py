"""Adv. Neg Grads: downhill on the retain set and uphill on the forget set in the same step."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ungan_dist.config import AdvNegGradsConfig
from ungan_dist.data import batches, derive_seed, gather, stream
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.models import trainable_copy


def adv_neg_grads(request: Request, config: AdvNegGradsConfig) -> Unlearned:
    """SGD on CE_r − CE_f, or on α·CE_r − (1 − α)·CE_f: NegGrad+ (Kurmanji et al. 2023)."""
    model = trainable_copy(request.original)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    retain_weight, forget_weight = (1.0, 1.0) if config.alpha is None else (config.alpha, 1 - config.alpha)
    batch_size, data = request.train.batch_size, request.data
    seed = derive_seed("adv neg grads", request.seed)
    forget_batches = stream(request.forget, batch_size, seed=derive_seed("forget", seed))

    def cross_entropy(batch: Int[Tensor, " batch"], epoch: int) -> Float[Tensor, ""]:
        images = gather(data, batch, augment=request.train.augment, seed=derive_seed("augment", seed), epoch=epoch)
        return functional.cross_entropy(model(images), data.labels[batch])

    curves: dict[str, list[float]] = {"retain cross-entropy": [], "forget cross-entropy": []}
    for epoch in range(config.epochs):
        losses: list[Tensor] = []
        retain_batches = batches(request.retain, batch_size, seed=seed, epoch=epoch)
        for retain_batch, (forget_epoch, forget_batch) in zip(retain_batches, forget_batches, strict=False):
            retain_loss, forget_loss = cross_entropy(retain_batch, epoch), cross_entropy(forget_batch, forget_epoch)
            optimizer.zero_grad(set_to_none=True)
            (retain_weight * retain_loss - forget_weight * forget_loss).backward()
            optimizer.step()
            losses.append(torch.stack([retain_loss, forget_loss]).detach())
        for curve, mean in zip(curves.values(), torch.stack(losses).mean(dim=0).tolist(), strict=True):
            curve.append(mean)
    return Unlearned(model=model.eval(), curves=curves)
