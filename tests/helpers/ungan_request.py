"""A small request and config for UnGAN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.models import frozen_copy
from ungan_dist.training.world import World

CLASSES, BATCH, SEED = 3, 4, 7
SMALL = UnGANConfig(
    epochs=2, critic_steps=2, generator_steps=2, finetune_steps=3, critic_widths=(8, 7, 6), critic_learning_rate=0.05
)


def make_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES))
        layers.to(dtype)(3 * torch.randn(64, 1, 6, 6, dtype=dtype))  # change the running statistics
    return layers


def make_request(dtype: torch.dtype = torch.float64, **changes: Any) -> Request:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (40, 6, 6, 1), dtype=torch.uint8, generator=generator)
    fields: dict[str, Any] = {
        "original": frozen_copy(make_model(dtype)),
        "fresh": make_model(dtype),
        "data": Examples(
            images=images,
            labels=torch.randint(0, CLASSES, (40,), generator=generator),
            table=make_normalisation_table((0.5,), (0.25,), dtype),
            num_classes=CLASSES,
        ),
        "retain": torch.arange(0, 20),
        "forget": torch.arange(20, 29),
        "unseen": torch.arange(29, 40),
        "train": TrainConfig(batch_size=BATCH, augment=AugmentConfig(padding=1, flip=True)),
        "seed": SEED,
        "world": World(),
    }
    return Request(**{**fields, **changes})


def make_config(**fields: Any) -> UnGANConfig:
    return UnGANConfig(**{**{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}, **fields})


def flatten_state(unlearned: Unlearned) -> Tensor:
    return torch.cat([value.flatten().double() for value in unlearned.model.state_dict().values()])
