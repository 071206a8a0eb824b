"""Shadow models: a unit of them in, log-odds out; the same unit, the same bits on the same kind of device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from ungan_dist.config import ModelConfig, QueryView, TrainConfig
from ungan_dist.data import derive_seed, layer_draws
from ungan_dist.evaluate import query
from ungan_dist.models import build, import_from
from ungan_dist.resident import Prepared, open_examples
from ungan_dist.split import membership_matrix
from ungan_dist.stacked import train_stacked
from ungan_dist.train import threads, train


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowUnit:
    """A fixed block of shadow models trained together; a retry repeats it exactly."""

    id: str
    """Hash of everything below but the output folder."""
    shadows: tuple[int, ...]
    """Ids of whole complementary pairs: from them alone come membership, weights and every draw."""
    seed: int
    """The fleet's seed."""
    prepared: Prepared
    pool: Int[np.ndarray, " pool"]
    """Indices of D ∪ D^s in the data set."""
    model: ModelConfig
    train: TrainConfig
    queries: tuple[QueryView, ...]
    engine: str
    """``serial`` or ``stacked``."""
    device: str
    """Type of device: ``cpu`` or ``cuda``."""
    fused: tuple[str, ...] = ()
    """Operations that run fused, as the plan resolved them."""
    code: str | None = None
    """Folder that a user's factory is imported from; none where there is no factory. No part of the id."""
    keep_models: bool = False
    """Whether the models are committed beside their log-odds; no part of the id."""

    @property
    def title(self) -> str:
        """In words, for progress and for lists of what is missing."""
        return f"shadow models {self.shadows[0]}–{self.shadows[-1]}"

    @property
    def num_models(self) -> int:
        """Models that this unit trains."""
        return len(self.shadows)

    @property
    def marker(self) -> str:
        """Relative to the output folder, which every run of this fleet shares."""
        return f"shadows/{self.id}.json"

    @property
    def log_odds_file(self) -> str:
        return f"shadows/{self.id}.npy"

    def weights_file(self, shadow: int) -> str:
        return f"shadows/{self.id}/{shadow}.safetensors"


def train_unit(unit: ShadowUnit) -> Float[np.ndarray, "models examples queries"]:
    """The log-odds of :func:`train_shadows`."""
    return train_shadows(unit)[1]


def train_shadows(unit: ShadowUnit) -> tuple[list[nn.Module], Float[np.ndarray, "models examples queries"]]:
    """Trains a unit's shadow models and asks each for the log-odds of the whole pool, float32.

    Raises:
        FloatingPointError: a shadow model has diverged; its scores would poison every likelihood ratio.
    """
    import_from(unit.code)
    data = open_examples(unit.prepared, unit.device, unit.fused)
    pool = torch.from_numpy(unit.pool).to(data.device)
    membership = membership_matrix(max(unit.shadows) // 2 * 2 + 2, len(pool), unit.seed)
    sets = [pool[torch.from_numpy(membership[shadow]).to(data.device)] for shadow in unit.shadows]
    seeds = [derive_seed("shadow", unit.seed, shadow) for shadow in unit.shadows]
    models = [
        build(
            unit.model,
            channels=data.images.shape[-1],
            num_classes=data.num_classes,
            seed=seed,
            device=data.device,
        )
        for seed in seeds
    ]
    with threads(unit.train.num_threads):
        if unit.engine == "stacked":
            train_stacked(models, data, sets, unit.train, seeds=seeds)
        else:
            for model, members, seed in zip(models, sets, seeds, strict=True):
                with layer_draws("shadow", seed):
                    train(model, data, members, unit.train, seed=seed)
        log_odds = np.stack([query(model, data, pool, unit.queries) for model in models])
    broken = [shadow for shadow, values in zip(unit.shadows, log_odds, strict=True) if not np.isfinite(values).all()]
    if broken:
        raise FloatingPointError(f"log-odds of shadow models {broken} are not finite: lower train.learning_rate")
    return models, log_odds
