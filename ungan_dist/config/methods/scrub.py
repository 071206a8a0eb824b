"""Options of SCRUB, with the presets of its published code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.checks import ADDED, not_negative, positive
from ungan_dist.config.methods.presets import override


@dataclass(frozen=True, kw_only=True)
class SCRUBSettings:
    """Complete settings of a preset, with the same field names as ``SCRUBConfig``."""

    gamma: float
    alpha: float
    temperature: float
    msteps: int
    epochs: int
    optimizer: Literal["sgd", "adam"]
    momentum: float
    weight_decay: float
    decay_epochs: tuple[int, ...]
    learning_rate: float = 5e-4
    retain_batch_size: int | None = None
    forget_batch_size: int | None = None


_SCRUB_PRESETS = {
    "large_scale": SCRUBSettings(
        gamma=0.99,
        alpha=0.001,
        temperature=4.0,
        msteps=2,
        epochs=3,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        decay_epochs=(3, 5, 9),
        # 128 and 32 stand in the notebook too, but nothing reads them; its loaders use these
        retain_batch_size=256,
        forget_batch_size=512,
    ),
    "small_scale": SCRUBSettings(
        gamma=1.0,
        alpha=0.5,
        temperature=2.0,
        msteps=3,
        epochs=10,
        optimizer="adam",
        momentum=0.0,
        weight_decay=0.1,
        decay_epochs=(5, 8, 9),
        retain_batch_size=32,
        forget_batch_size=64,
    ),
    "mia": SCRUBSettings(
        gamma=1.0,
        alpha=0.5,
        temperature=4.0,
        msteps=3,
        epochs=5,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        decay_epochs=(3, 5, 9),
        retain_batch_size=32,
        forget_batch_size=16,
    ),
}


@dataclass(frozen=True, kw_only=True)
class SCRUBConfig:
    """SCRUB: alternate between leaving the original on the forget set and matching it on the retain set."""

    preset: Literal["large_scale", "small_scale", "mia"] = "small_scale"
    """Settings of the published code; each field set below overrides the preset. The ten epochs of small_scale fit the
    time T_U in Table 1 of the paper, and the rise of retain accuracy there, better than the three of large_scale."""
    gamma: float | None = None
    """Weight of cross-entropy on the retain set; defaults to the preset's."""
    alpha: float | None = None
    """Weight of the divergence from the original on the retain set; defaults to the preset's."""
    temperature: float | None = None
    """Temperature T of the divergence; defaults to the preset's."""
    msteps: int | None = None
    """Number of first epochs that start with a pass over the forget set; defaults to the preset's."""
    epochs: int | None = None
    """Passes over the retain set; defaults to the preset's."""
    optimizer: Literal["sgd", "adam"] | None = None
    """The student's optimizer; Adam's weight decay is L2, not decoupled. Defaults to the preset's."""
    momentum: float | None = None
    """SGD momentum; defaults to the preset's."""
    weight_decay: float | None = None
    """L2 penalty; defaults to the preset's."""
    learning_rate: float | None = None
    """Learning rate before any decay; defaults to the preset's."""
    decay_epochs: tuple[int, ...] | None = None
    """Divide the learning rate by 10 after each of these epochs, counted from 1; defaults to the preset's."""
    retain_batch_size: int | None = None
    """Defaults to that of the published loaders: 256 with large_scale, 32 with small_scale and mia."""
    forget_batch_size: int | None = None
    """Defaults to that of the published loaders: 512 with large_scale, 64 with small_scale, 16 with mia."""
    order: Literal["scrub", "mufac"] = field(default="scrub", metadata=ADDED)
    """Order of the two passes of an epoch: as in SCRUB's code, the forget set first, or as in MUFAC's, the retain set
    first."""
    rewind: bool = False
    """SCRUB+R: return the epoch whose forget error is nearest to the final error on unseen examples."""

    def __post_init__(self) -> None:
        positive(
            temperature=self.temperature,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            retain_batch_size=self.retain_batch_size,
            forget_batch_size=self.forget_batch_size,
        )
        not_negative(
            gamma=self.gamma,
            alpha=self.alpha,
            msteps=self.msteps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def settings(self) -> SCRUBSettings:
        """Return the preset's settings, overridden by the fields that are set here."""
        return override(_SCRUB_PRESETS[self.preset], self)
