"""Retrain: train from scratch without the forget set. Exact, but as expensive as the original."""

from __future__ import annotations

from ungan_dist.config.methods import RetrainConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.train import train


def retrain(request: Request, config: RetrainConfig) -> Unlearned:
    """Apply the original's recipe to the retain set, starting from new weights."""
    del config
    model = request.copy_fresh()
    losses = train(
        model,
        request.data,
        request.retain,
        request.train,
        seed=derive_seed("retrain", request.seed),
        world=request.world,
        checkpoint=request.checkpoint,
        steps=request.steps,
    )
    return Unlearned(model=model, curves={"retain cross-entropy": losses})
