"""A request small enough to be worked through step by step in float64."""

from __future__ import annotations

import numpy as np
import torch

from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.methods.request import Request
from ungan_dist.training.models import build, frozen_copy
from ungan_dist.training.world import World

NUM_CLASSES = 5


def tiny_request(
    *, seed: int = 3, dtype: torch.dtype = torch.float64, model: ModelConfig | None = None, num_forget: int = 11
) -> Request:
    """Make a request of 26 retain, 11 forget, 9 unseen and 14 unused examples of 8 × 8 pixels, in batches of 8."""
    generator = np.random.default_rng(0)
    num_examples = 26 + num_forget + 9 + 14
    order = torch.from_numpy(generator.permutation(num_examples))
    retain, forget, unseen, _ = order.split([26, num_forget, 9, 14])
    images = generator.integers(0, 256, (num_examples, 8, 8, 1), dtype=np.uint8)
    original, fresh = (
        build(
            model or ModelConfig(width=4), channels=1, num_classes=NUM_CLASSES, seed=name, device=torch.device("cpu")
        ).to(dtype)
        for name in (0, 1)
    )
    return Request(
        original=frozen_copy(original),
        fresh=fresh,
        data=Examples(
            images=torch.from_numpy(images),
            labels=torch.arange(num_examples) % NUM_CLASSES,
            table=make_normalisation_table((0.5,), (0.25,), dtype),
            num_classes=NUM_CLASSES,
        ),
        retain=retain,
        forget=forget,
        unseen=unseen,
        train=TrainConfig(epochs=2, batch_size=8, augment=AugmentConfig(padding=1)),
        seed=seed,
        world=World(),
    )
