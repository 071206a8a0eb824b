"""Ways to train the same models: engine, precision, layout in memory, and torch.compile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.training import MemoryFormat, ModelConfig, Precision, TrainConfig
from ungan_dist.data.examples import Examples, gather
from ungan_dist.data.rows import shuffle, split_pass
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.engines.slot import Slot
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.models import build, use_memory_format
from ungan_dist.training.precision import use_precision
from ungan_dist.training.recipe import make_recipe_optimizer
from ungan_dist.training.schedules import cosine_annealing
from ungan_dist.training.train import take_step, train

Trainer = Callable[[Sequence[nn.Module], Sequence[Tensor]], None]
"""Trains models in place, each on its own set."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How models are trained."""

    engine: Literal["serial", "graph", "branches", "stacked", "compile", "draws for each batch"] = "serial"
    """``compile``: serial with torch.compile. ``draws for each batch``: a serial loop that draws, uploads and waits in
    every step, as the first version did."""
    precision: Precision = "fp32"
    memory_format: MemoryFormat = "channels_last"
    num_places: int = 1
    """Models that are trained at once."""

    @property
    def title(self) -> str:
        """Name for a table."""
        return f"{self.engine}, {self.precision}, {self.num_places} at once"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all arms train."""

    model: ModelConfig
    data: Examples
    train: TrainConfig

    def new_models(self, arm: Arm, count: int) -> list[nn.Module]:
        """Build models with the initial weights of the seeds 0, 1, …, in the arm's layout."""
        channels, device = self.data.images.shape[-1], self.data.device
        models = [
            build(self.model, channels=channels, num_classes=self.data.num_classes, seed=seed, device=device)
            for seed in range(count)
        ]
        return [use_memory_format(model, self.model, arm.memory_format) for model in models]


def make_trainer(arm: Arm, task: Task, set_size: int) -> Trainer:
    """Make the function that trains in one arm; a captured step is captured here.

    Args:
        arm: The arm.
        task: What it trains.
        set_size: Size of each training set.
    """
    data = dataclasses.replace(task.data, channels_last=arm.memory_format == "channels_last")
    if arm.engine in ("graph", "branches"):
        with use_precision(arm.precision):
            slot = Slot(task.new_models(arm, arm.num_places), data, task.train, set_size)

    def train_all(models: Sequence[nn.Module], sets: Sequence[Tensor]) -> None:
        with use_precision(arm.precision):
            for start in range(0, len(models), arm.num_places):
                group = slice(start, start + arm.num_places)
                some, members = list(models[group]), list(sets[group])
                seeds = list(range(start, start + len(some)))
                if arm.engine in ("graph", "branches"):
                    slot.train(some, members, seeds=seeds)
                elif arm.engine == "stacked":
                    train_stacked(some, data, members, task.train, seeds=seeds)
                elif arm.engine == "draws for each batch":
                    _train_with_waits(some[0], data, members[0], task.train, seed=start)
                else:
                    model = torch.compile(some[0]) if arm.engine == "compile" else some[0]
                    train(model, data, members[0], task.train, seed=start)  # pyright: ignore[reportArgumentType]

    return train_all


def _train_with_waits(model: nn.Module, data: Examples, members: Tensor, config: TrainConfig, *, seed: int) -> None:
    """Train as ``train`` does, but draw and upload the crops of each batch in its step, and read its loss there."""
    optimizer = make_recipe_optimizer(model.parameters(), config)
    model.train()
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = cosine_annealing(config.learning_rate, epoch, config.epochs)
        order = torch.from_numpy(shuffle(len(members), derive_seed("order", seed, epoch)))
        for batch in split_pass(len(order), config.batch_size):
            rows = members[order[batch].to(members.device)]
            images = gather(data, rows, augment=config.augment, seed=derive_seed("augment", seed), epoch=epoch)
            loss = functional.cross_entropy(forward(model, images), data.labels[rows])
            float(take_step(loss, optimizer, model, share=len(rows), num_rows=len(rows)))
    model.eval()
