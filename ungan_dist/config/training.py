"""What is trained and how: the classifier, the training recipe and the shadow models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.attack import QueryView
from ungan_dist.config.checks import ADDED, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The classifier."""

    name: Literal["small_cnn", "resnet18", "resnet18_cifar"] = "small_cnn"
    """small_cnn: three convolutions. resnet18: torchvision's own. resnet18_cifar: 3×3 stem, no max-pool."""
    width: int = 16
    """Channels of the small CNN's first stage; the ResNets ignore it."""
    factory: str | None = field(default=None, metadata=ADDED)
    """``module:function`` of your own, called with ``num_classes=`` and, where it takes one, ``channels=``; returns an
    nn.Module that maps [batch, channels, height, width] to [batch, num_classes]. Overrides the name. A run is known by
    this text and by the names and shapes of the model's weights, not by the code behind them."""

    def __post_init__(self) -> None:
        positive(width=self.width)
        if self.factory is not None and not all(self.factory.partition(":")[::2]):
            raise ValueError(f"model.factory must be module:function, got {self.factory!r}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random crop and flip of training examples, drawn by Philox from (seed, epoch, example)."""

    padding: int = 0
    """Zero pixels added on each side before a random crop back to size; 0 turns the crop off."""
    flip: bool = False
    """Mirror left and right with probability one half."""

    def __post_init__(self) -> None:
        not_negative(padding=self.padding)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the original, Retrain and every shadow model are trained: SGD with cosine annealing per epoch."""

    epochs: int = 40
    """Passes over the training set."""
    batch_size: int = 256
    """Examples a step, over all ranks."""
    learning_rate: float = 0.1
    """Initial learning rate."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 0.0
    """L2 penalty."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training examples; evaluation has none."""
    num_threads: int = 1
    """Torch threads of a CPU training. Results depend on it, so it is part of what a result is."""
    num_workers: int = 1
    """Processes that share every batch of the original's and of each method's training (the shadow models' as well with
    shadows.data_parallel). batch_size stays that of all together, so a run may be continued with fewer: no more than
    rounding changes."""
    sync_batch_norm: bool = True
    """With several workers: batch norm by the statistics of the whole batch, as one process has them. Off: each worker
    by its own rows', which is faster and another training; the number of workers is then part of what a result is."""

    def __post_init__(self) -> None:
        positive(
            num_workers=self.num_workers,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            num_threads=self.num_threads,
        )
        not_negative(momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class ShadowConfig:
    """The fleet of shadow models."""

    num_models: int = 256
    """Shadow models trained; every example is a member of exactly half of them. A larger number extends a run."""
    unit_size: int = 8
    """Shadow models trained together as one unit of work: even, so that a unit holds whole pairs."""
    queries: tuple[QueryView, ...] = ("plain",)
    """Deterministic views of each example that the attack asks about, the same for every model."""
    seed: int = 0
    """Fixes the membership matrix and every shadow model's training."""
    engine: Literal["auto", "serial", "stacked"] = "auto"
    """serial: one model after another. stacked: all of a unit at once (torch.func). auto: serial on a CPU, for a model
    of your own and with shadows.data_parallel; stacked on a GPU otherwise."""
    data_parallel: bool = field(default=False, metadata=ADDED)
    """Each shadow model is trained by all of train.num_workers processes, as the original is: for models that are too
    large or too slow for one. Off: one process trains a unit, as many units at once as there are workers."""

    def __post_init__(self) -> None:
        if self.num_models < 2 or self.num_models % 2:
            raise ValueError(f"num_models must be even and at least 2, got {self.num_models}")
        if self.unit_size < 2 or self.unit_size % 2:
            raise ValueError(f"unit_size must be even and at least 2, got {self.unit_size}")
        if self.data_parallel and self.engine == "stacked":
            raise ValueError(
                "shadows.data_parallel trains one model after another by several processes, shadows.engine stacked all "
                "of a unit at once by one: choose one of the two"
            )
        not_negative(**{"shadows.seed": self.seed})
        if not self.queries or len(set(self.queries)) != len(self.queries):
            raise ValueError(f"queries must name at least one view, each once, got {self.queries}")
