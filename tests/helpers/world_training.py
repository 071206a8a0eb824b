"""Train by a recipe in a world of any size, in float64."""

from __future__ import annotations

import torch
from tiny_request import tiny_request
from torch import Tensor, nn

from ungan_dist.config.training import ModelConfig, TrainConfig
from ungan_dist.training.batch_norm import use_global_statistics
from ungan_dist.training.models import build
from ungan_dist.training.train import train
from ungan_dist.training.world import World


def make(seed: int) -> nn.Module:
    """Build a model for the examples of ``tiny_request``."""
    config = ModelConfig(width=4)
    return build(config, channels=1, num_classes=5, seed=seed, device=torch.device("cpu")).double()


def trained(world: World, config: TrainConfig) -> dict[str, Tensor]:
    """Train a model on 26 examples."""
    model = make(0) if world.size == 1 else use_global_statistics(make(0), world)
    train(model, tiny_request().data, torch.arange(26), config, seed=0, world=world)
    return model.state_dict()


def trained_by_all(world: World, configs: list[TrainConfig]) -> list[dict[str, Tensor]]:
    """Train a model by each recipe."""
    return [trained(world, config) for config in configs]
