"""Train a few shadow models and compute their log-odds; equal units give equal bits on one kind of device.

Large shadow models may be trained by several processes that share every batch, one model after another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config.attack import QueryView
from ungan_dist.config.training import CAPTURING, TOGETHER, ModelConfig, TrainConfig
from ungan_dist.config.user_code import add_import_path
from ungan_dist.data.examples import Examples
from ungan_dist.data.membership import draw_members
from ungan_dist.data.prepared import PreparedData, open_examples
from ungan_dist.data.seeds import derive_seed, seed_layers
from ungan_dist.training.batch_norm import check_replicas, use_global_statistics
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.engines.slot import open_slot
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.evaluate import query
from ungan_dist.training.models import build, is_channels_last, use_memory_format
from ungan_dist.training.precision import use_precision
from ungan_dist.training.train import train, use_threads
from ungan_dist.training.world import SINGLE_PROCESS, World


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowUnit:
    """Shadow models that are committed together; a retry repeats them exactly."""

    id: str
    """Hash of every field that determines the result, without the output folder."""
    shadows: tuple[int, ...]
    """Ids of whole complementary pairs; they determine membership, weights and every draw."""
    seed: int
    """Seed of all shadow models."""
    prepared: PreparedData
    pool: Int[np.ndarray, " pool"]
    """Indices of D ∪ D^s in the data set."""
    model: ModelConfig
    train: TrainConfig
    queries: tuple[QueryView, ...]
    engine: str
    """``serial``, ``graph``, ``branches`` or ``stacked``."""
    device: str
    """``cpu`` or ``cuda``."""
    fused: tuple[str, ...] = ()
    """Operations of this unit that run fused, as the plan resolved them."""
    judged_on: tuple[str, ...] = ()
    """Kinds of device that its fused operations were judged on. No part of the id."""
    code: str | None = None
    """Folder that the user's factory is imported from, if there is one. No part of the id."""
    keep_models: bool = False
    """Also commit the models' weights. No part of the id."""
    num_surplus: int = 0
    """Models at the end that a larger run trained and this run does not use. No part of the id."""
    weights_only: bool = False
    """Train again for the weights alone, because the log-odds were committed without them. No part of the id."""

    @property
    def title(self) -> str:
        """Name for progress and for lists of missing units."""
        return f"{'weights of ' * self.weights_only}shadow models {self.shadows[0]}–{self.shadows[-1]}"

    @property
    def num_models(self) -> int:
        """Number of models that the run uses."""
        return len(self.shadows) - self.num_surplus

    @property
    def marker(self) -> str:
        """Name of the marker, relative to the output folder, which all runs share."""
        return f"shadows/{self.id}/weights.json" if self.weights_only else f"shadows/{self.id}.json"

    @property
    def log_odds_file(self) -> str:
        return f"shadows/{self.id}.npy"

    @property
    def files(self) -> list[str]:
        """Names of the files that every result has, relative to the output folder."""
        return [self.weights_file(shadow) for shadow in self.shadows] if self.weights_only else [self.log_odds_file]

    def weights_file(self, shadow: int) -> str:
        return f"shadows/{self.id}/{shadow}.safetensors"

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints: one per model, or one for all models that are trained at once."""
        if self.engine in TOGETHER:
            return [f"shadows/{self.id}/stack-checkpoint"]
        return [f"shadows/{self.id}/{shadow}-checkpoint" for shadow in self.shadows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shadows:
    """A unit's trained models, and the examples to query."""

    models: list[nn.Module]
    data: Examples
    pool: Int[Tensor, " pool"]


def train_shadows(unit: ShadowUnit, world: World = SINGLE_PROCESS, checkpoints: Sequence[Checkpoint] = ()) -> Shadows:
    """Train a unit's shadow models, each by all processes of a world.

    Args:
        unit: The unit to compute.
        world: The processes that share each batch; defaults to this process.
        checkpoints: The unit's checkpoints, written after an epoch and continued from; defaults to none.
    """
    add_import_path(unit.code)
    data = open_examples(unit.prepared, unit.device if world.size == 1 else str(world.device), unit.fused)
    world = dataclasses.replace(world, device=data.device)
    pool = torch.from_numpy(unit.pool).to(data.device)
    membership = draw_members(unit.shadows, len(pool), unit.seed)
    sets = [pool[torch.from_numpy(members).to(data.device)] for members in membership]
    seeds = [derive_seed("shadow", unit.seed, shadow) for shadow in unit.shadows]
    models = [_fresh(unit, data, seed, world) for seed in seeds]
    channels_last = is_channels_last(models[0], unit.model, unit.train.memory_format)
    data = dataclasses.replace(data, channels_last=channels_last)
    with use_threads(unit.train.num_threads), use_precision(unit.train.precision):
        if unit.engine == "stacked":
            assert world.size == 1, "stacked models need a single process"
            train_stacked(models, data, sets, unit.train, seeds=seeds, checkpoint=next(iter(checkpoints), None))
        elif unit.engine in CAPTURING:
            assert world.size == 1, "captured steps need a single process"
            _train_in_slot(unit, models, sets, seeds, checkpoints)
        else:
            kept = checkpoints or [None] * len(models)
            for model, members, seed, checkpoint in zip(models, sets, seeds, kept, strict=True):
                with seed_layers("shadow", seed):
                    train(model, data, members, unit.train, seed=seed, world=world, checkpoint=checkpoint)
                check_replicas(model, world, unit.title)
    return Shadows(models=models, data=data, pool=pool)


def _train_in_slot(
    unit: ShadowUnit,
    models: Sequence[nn.Module],
    sets: Sequence[Tensor],
    seeds: Sequence[int],
    checkpoints: Sequence[Checkpoint],
) -> None:
    """Train models in the slot of this process: one after another, or all at once."""
    num_places = len(models) if unit.engine in TOGETHER else 1
    slot = open_slot(
        unit.prepared, unit.device, unit.fused, unit.model, unit.train, set_size=len(sets[0]), num_places=num_places
    )
    for first, checkpoint in zip(range(0, len(models), num_places), checkpoints or [None] * len(models), strict=False):
        some = slice(first, first + num_places)
        slot.train(models[some], sets[some], seeds=seeds[some], checkpoint=checkpoint)


def evaluate_shadows(unit: ShadowUnit, trained: Shadows) -> Float[np.ndarray, "models examples queries"]:
    """Compute each model's log-odds of the whole pool, in float32.

    Raises:
        Diverged: A shadow model has diverged, which would spoil every likelihood ratio.
    """
    with use_threads(unit.train.num_threads), use_precision("fp32"):
        return np.stack([query(model, trained.data, trained.pool, unit.queries) for model in trained.models])


def _fresh(unit: ShadowUnit, data: Examples, seed: int, world: World) -> nn.Module:
    model = build(
        unit.model,
        channels=data.input_shape[0],
        num_classes=data.num_classes,
        seed=seed,
        device=data.device,
        size=data.input_shape[1:],
    )
    use_memory_format(model, unit.model, unit.train.memory_format)
    return use_global_statistics(model, world) if world.size > 1 and unit.train.sync_batch_norm else model
