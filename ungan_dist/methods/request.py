"""What an unlearning method is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor, nn

from ungan_dist.config.training import TrainConfig
from ungan_dist.data.examples import Examples
from ungan_dist.training.checkpoint import Checkpoint
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
    """Fixes every random draw of the method."""
    world: World
    checkpoint: Checkpoint | None = None
    """Where the method's state is kept after each epoch and continued from; none: nowhere."""


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """A method's product."""

    model: nn.Module
    """In eval mode."""
    curves: dict[str, list[float]]
    """Mean loss an epoch (or a round), by the loss's name."""
