"""Options of later methods; where no reason is given, a default is that of the authors' code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ungan_dist.config.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class SSDConfig:
    """SSD: dampen the weights that matter more to the forget set than to the whole training set; nothing is trained."""

    selection_weighting: float = 10.0
    """α: a weight is dampened if its importance to D_f exceeds α times that to D_r ∪ D_f. The code has 10 for ResNets;
    its paper searches."""
    dampening_constant: float = 1.0
    """λ: a chosen weight is multiplied by λ times the ratio of its importances, and at most by 1."""
    batch_size: int | None = None
    """Examples in the batches whose squared gradients are averaged; defaults to the training recipe's. The code
    has 128."""

    def __post_init__(self) -> None:
        positive(
            selection_weighting=self.selection_weighting,
            dampening_constant=self.dampening_constant,
            batch_size=self.batch_size,
        )


@dataclass(frozen=True, kw_only=True)
class SalUnConfig:
    """SalUn: Random Labels on the weights with the largest gradients of the forget set; the others stay as they are."""

    saliency: float = 0.5
    """Share of the weights that are trained."""
    epochs: int = 10
    """Passes over both sets."""
    learning_rate: float = 0.01
    """Constant learning rate of SGD. The readme of the code has 0.1 for CIFAR-10, with batches of 256."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 5e-4
    """L2 penalty."""
    passes: Literal["joint", "salun_cifar10"] = "salun_cifar10"
    """joint: one pass over both sets together, as the code has it for CIFAR-100. salun_cifar10: a pass over the forget
    set, then one over the retain set, as it has it for CIFAR-10."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(momentum=self.momentum, weight_decay=self.weight_decay)
        if not 0 < self.saliency <= 1:
            raise ValueError(f"saliency must be greater than 0 and at most 1, got {self.saliency}")


@dataclass(frozen=True, kw_only=True)
class BadTeacherConfig:
    """Bad Teacher: imitate a model with initial weights on the forget set, and the original on a part of the retain
    set."""

    epochs: int = 1
    """Passes over D_f and the part of D_r."""
    learning_rate: float = 1e-4
    """Adam's learning rate."""
    temperature: float = 1.0
    """Temperature of the outputs that are compared."""
    retain_fraction: float = 0.3
    """Part of the retain set, drawn once."""
    batch_size: int | None = None
    """Defaults to the training recipe's; the code has 256."""

    def __post_init__(self) -> None:
        positive(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            temperature=self.temperature,
            batch_size=self.batch_size,
        )
        if not 0 < self.retain_fraction <= 1:
            raise ValueError(f"retain_fraction must be greater than 0 and at most 1, got {self.retain_fraction}")


@dataclass(frozen=True, kw_only=True)
class L1SparseConfig:
    """ℓ1-sparse: continue training on the retain set, with an ℓ1 penalty that falls to zero."""

    alpha: float = 5e-4
    """Weight of ‖θ‖₁ in the first epoch. The code's own default, 0.2, is that of another method; its readme leaves
    the value open."""
    epochs: int = 10
    """Passes over the retain set."""
    epochs_without_penalty: int = 0
    """Last passes without penalty. The penalty falls linearly over those before."""
    learning_rate: float = 0.01
    """Constant learning rate of SGD."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 5e-4
    """L2 penalty."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(
            alpha=self.alpha,
            epochs_without_penalty=self.epochs_without_penalty,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        if self.epochs_without_penalty >= self.epochs:
            raise ValueError(
                f"epochs_without_penalty {self.epochs_without_penalty} leaves none of {self.epochs} epochs with a "
                f"penalty: lower it"
            )


@dataclass(frozen=True, kw_only=True)
class InfluenceConfig:
    """Influence unlearning: one Newton step that undoes the forget set, with WoodFisher's inverse."""

    alpha: float = 0.2
    """Length of the step."""
    fisher_examples: int = 1000
    """N: retain examples of which the inverse is estimated, and the constant of its recursion, as in the code, which
    takes two examples more."""
    batch_size: int | None = None
    """Examples in the batches of the two mean gradients, which do not depend on it; defaults to the training
    recipe's."""

    def __post_init__(self) -> None:
        positive(alpha=self.alpha, fisher_examples=self.fisher_examples, batch_size=self.batch_size)


@dataclass(frozen=True, kw_only=True)
class DeleteConfig:
    """DELETE: imitate, on the forget set alone, the original's outputs without their true class."""

    epochs: int = 20
    """Passes over the forget set."""
    learning_rate: float = 1e-4
    """Constant learning rate of SGD."""
    momentum: float = 0.9
    """SGD momentum."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(momentum=self.momentum)
