"""The pictures that parts train on: random ones where only time counts, real ones where accuracy does."""

from __future__ import annotations

import os

import numpy as np
import torch

from gpu_parts.session import Session
from ungan_dist.config.data import SourceConfig
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.data.sources.source import Source, load_source


def draw_examples(session: Session, count: int, *, channels_last: bool = False) -> Examples:
    """Draw pictures as large as those of CIFAR-10; their content does not change the time."""
    size = session.pick(32, 8)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
    return Examples(
        images=images.to(session.device),
        labels=(torch.arange(count) % 10).to(session.device),
        table=make_normalisation_table((0.49, 0.48, 0.45), (0.2, 0.2, 0.2)).to(session.device),
        num_classes=10,
        channels_last=channels_last,
    )


def load_pictures() -> Source:
    """Read CIFAR-10 if the host has it, otherwise the digits, which scikit-learn brings along."""
    return load_source(SourceConfig(kind="cifar10" if "CIFAR10_PARQUET" in os.environ else "digits"))


def open_source(source: Source, device: str) -> Examples:
    """Put a source on a device."""
    return Examples(
        images=torch.from_numpy(source.images).to(device),
        labels=torch.from_numpy(source.labels.astype(np.int64)).to(device),
        table=make_normalisation_table(source.mean, source.std).to(device),
        num_classes=source.num_classes,
    )
