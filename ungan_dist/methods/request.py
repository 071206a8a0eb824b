"""The input and the output of an unlearning method."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.training import TrainConfig
from ungan_dist.data.dataset import ExampleDataset
from ungan_dist.data.examples import Examples
from ungan_dist.data.rows import Rows
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.engines.passes import read_rows, take_rows
from ungan_dist.training.models import trainable_copy
from ungan_dist.training.train import train_pass
from ungan_dist.training.world import World


@dataclass(frozen=True, kw_only=True)
class Request:
    """A model and the sets that a method may use; the test set is not among them."""

    original: nn.Module
    """Ĝ, in eval mode and frozen; never modified."""
    fresh: nn.Module
    """The same architecture with this seed's initial weights, for training from scratch; copied, never modified."""
    data: Examples
    retain: Int[Tensor, " retain"]
    """D_r, indices into the data."""
    forget: Int[Tensor, " forget"]
    """D_f."""
    unseen: Int[Tensor, " unseen"]
    """D_u."""
    train: TrainConfig
    """The original's training recipe."""
    seed: int
    """Determines every random draw of the method."""
    world: World
    rebuild: Callable[[], nn.Module] | None = None
    """Builds the architecture anew, by which models are copied; by default they are deep-copied."""
    checkpoint: Checkpoint | None = None
    """Keeps the method's state after each epoch; by default no state is kept."""
    steps: CapturedSteps | None = None
    """Captures the method's steps, in a single process; by default each step runs as it is."""

    @property
    def device(self) -> torch.device:
        """Device of the data and of the models."""
        return self.data.device

    def derive_seed(self, *words: int | str) -> int:
        """Derive a seed of its own for each purpose from the request's seed."""
        return derive_seed(*words, self.seed)

    def dataset(self, indices: Int[Tensor, " set"], *, epoch: int | None = None) -> ExampleDataset:
        """Return a set as ``torch.utils.data.Dataset`` of images and labels.

        Args:
            indices: ``retain``, ``forget`` or ``unseen``, or other indices into the data.
            epoch: with an epoch, images are cropped and flipped at random as in the training recipe; by default they
                are as they are evaluated.
        """
        augment = None if epoch is None else self.train.augment
        return ExampleDataset(self.data, indices, augment=augment, seed=self.derive_seed("dataset"), epoch=epoch or 0)

    def copy_original(self) -> nn.Module:
        """Return a trainable copy of the original; layers that its factory froze stay frozen."""
        return trainable_copy(self.original, like=self.fresh, rebuild=self.rebuild)

    def copy_fresh(self) -> nn.Module:
        """Return a trainable copy of the model with initial weights."""
        return trainable_copy(self.fresh, rebuild=self.rebuild)

    def epochs(self, **state: Any) -> Epochs:
        """Return the method's epochs, with ``state`` in their checkpoints: see ``Epochs``."""
        return Epochs(self.checkpoint, self.world, self.seed, **state)

    def train_pass(
        self,
        model: nn.Module,
        indices: Int[Tensor, " set"],
        optimizer: torch.optim.Optimizer,
        *,
        epoch: int,
        purpose: str,
        batch_size: int | None = None,
        labels: Int[Tensor, " examples"] | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    ) -> float:
        """Run one shuffled pass of optimizer steps over a set, augmented as in the training recipe.

        Args:
            purpose: part of the seed, so that different passes draw different batches.
            batch_size: defaults to the training recipe's.
            labels: replace the labels of the whole data set.
            loss: logits and labels → mean loss over rows.

        Returns:
            Mean loss over the steps.
        """
        return train_pass(
            model,
            self.data,
            indices,
            optimizer,
            batch_size=batch_size or self.train.batch_size,
            seed=derive_seed(purpose, self.seed),
            epoch=epoch,
            augment=self.train.augment,
            labels=labels,
            loss=loss,
            world=self.world,
            steps=self.steps,
        )

    def take_step(self, name: Hashable, step: Callable[..., Tensor], *inputs: Rows | Tensor) -> Tensor:
        """Take a step of the method's own, captured if the engine captures steps.

        Args:
            name: tells the method's steps apart.
            step: changes weights in place, and returns its losses; it reads no value on the host.
            inputs: its arguments: everything that differs from step to step.
        """
        if self.steps is None:
            return step(*inputs)
        read = [one if isinstance(one, Tensor) else read_rows(self.data, one) for one in inputs]
        return take_rows(self.steps, name, step, *read).clone()

    def prepare(self, *optimizers: torch.optim.Optimizer) -> None:
        """Let captured steps read the learning rates of optimizers; call it before the steps of each epoch."""
        if self.steps is not None:
            for optimizer in optimizers:
                self.steps.prepare(optimizer)


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """The output of a method."""

    model: nn.Module
    """The unlearned model, in eval mode."""
    curves: dict[str, list[float]]
    """Name of a loss → its mean in each epoch or round."""
