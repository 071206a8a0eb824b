"""Weights, batches and a torch network of a small critic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEATURES, BATCH = 6, 7
PENALTIES = ["squared", "as_written"]
TARGETS = ["critic", "embedding_sum", "embedding_norm", "jacobian"]
SHAPES = [(5, 6), (5,), (4, 5), (4,), (3, 4), (3,)]


def draw(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_weights(scale: float = 0.6) -> list[Tensor]:
    return [draw(*shape, seed=i, scale=scale).requires_grad_() for i, shape in enumerate(SHAPES)]


def make_batches(num: int = 4, rows: int = BATCH) -> list[Tensor]:
    """z_u, z_f, z'_f, z'_u."""
    return [draw(rows, FEATURES, seed=10 + i) for i in range(num)]


def make_epsilon(rows: int = BATCH) -> Tensor:
    return torch.rand(rows, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def second_batch(surrogate: str) -> dict[str, Any]:
    return {"z_unseen2": make_batches()[3] if surrogate == "energy" else None}


def build_network(w: list[Tensor]) -> nn.Sequential:
    """Build the critic from torch's layers."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    model.load_state_dict(dict(zip(model.state_dict(), [t.detach() for t in w], strict=True)))
    return model
