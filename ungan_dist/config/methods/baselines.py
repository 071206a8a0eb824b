"""Options of the original, of Retrain and of the baselines without presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.checks import ADDED, not_negative, positive, within


@dataclass(frozen=True, kw_only=True)
class OriginalConfig:
    """Original: the model as trained, unchanged."""


@dataclass(frozen=True, kw_only=True)
class UnlearnedConfig:
    """A model that was unlearned elsewhere; its weights are read from a file."""

    weights: str
    """Path of a safetensors file, or of a checkpoint that ``torch.load(weights_only=True)`` reads."""
    sha256: str = ""
    """Hash of the file when the run was planned; a file with other content is refused."""
    identity: str = ""
    """Hash by which the result is known."""
    key: str | None = None
    """Which weights of the file are meant; by default the only ones."""


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """Retrain: train from scratch on the retain set with the original's recipe. The reference of every verdict."""


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Fine-Tuning: minimise cross-entropy on the retain set with SGD."""

    epochs: int = 10
    """Passes over the retain set."""
    learning_rate: float = 0.01
    """Constant learning rate."""
    momentum: float = 0.0
    """SGD momentum."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(momentum=self.momentum)


@dataclass(frozen=True, kw_only=True)
class RandomLabelsConfig:
    """Random Labels: minimise cross-entropy on the training set with random forget labels, with AdamW."""

    epochs: int = 10
    """Passes over D_r ∪ D_f."""
    learning_rate: float = 5e-4
    """AdamW's learning rate."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    redraw: bool = False
    """Draw new labels before every epoch (SalUn) instead of once."""
    exclude_true: bool = False
    """Draw from the wrong classes only (amnesiac unlearning) instead of from all classes."""
    passes: Literal["joint", "salun_cifar10"] = field(default="joint", metadata=ADDED)
    """joint: one pass over both sets together, as in SalUn's code for CIFAR-100. salun_cifar10: a pass over the forget
    set, then one over the retain set, as in SalUn's code for CIFAR-10."""
    optimizer: Literal["adamw", "sgd"] = field(default="adamw", metadata=ADDED)
    """sgd, as in SalUn's code, has an L2 penalty as weight decay."""
    momentum: float = field(default=0.9, metadata=ADDED)
    """SGD momentum."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(weight_decay=self.weight_decay, momentum=self.momentum)


@dataclass(frozen=True, kw_only=True)
class NegGradsConfig:
    """Neg Grads: maximise cross-entropy on the forget set, then repair on the retain set, with SGD."""

    epochs: int = 10
    """Passes over the forget set."""
    repair_epochs: int = 1
    """Passes over the retain set afterwards, as in the authors' code but not in the paper. 0 turns the repair off."""
    learning_rate: float = 0.01
    """Learning rate of ascent and repair."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(repair_epochs=self.repair_epochs)


@dataclass(frozen=True, kw_only=True)
class AdvNegGradsConfig:
    """Adv. Neg Grads: each SGD step descends on a retain batch and ascends on a forget batch."""

    epochs: int = 2
    """Passes over the retain set; forget batches are cycled."""
    learning_rate: float = 1e-3
    """Constant learning rate."""
    alpha: float | None = None
    """Minimise α·CE_r − (1 − α)·CE_f (NegGrad+; SCRUB's code uses 0.95 and 0.9999). Defaults to CE_r − CE_f."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        if self.alpha is not None:
            within(0, 1, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class CFkConfig:
    """CF-k: fine-tune the last stages with SGD and freeze the others."""

    k: int | None = None
    """Number of last stages to train; the paper's k counts the frozen first ones instead. Defaults to half of the
    stages: 3 of a ResNet's 6, 2 of the small CNN's 4."""
    train_classifier: bool = True
    """Train the classifying layer too. Without it, ``k=2`` trains layer4 alone, as SCRUB's code does."""
    epochs: int = 2
    """Passes over the retain set."""
    learning_rate: float = 1e-3
    """Constant learning rate."""
    update_frozen_statistics: bool = False
    """Let frozen batch norms update their running statistics, as a model left in training mode does."""

    def __post_init__(self) -> None:
        positive(k=self.k, epochs=self.epochs, learning_rate=self.learning_rate)
        if self.k == 1 and not self.train_classifier:
            raise ValueError("k 1 without train_classifier leaves nothing to train: raise k or set train_classifier")
