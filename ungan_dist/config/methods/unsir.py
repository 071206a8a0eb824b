"""Options of UNSIR, with the presets of its published variants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.checks import ADDED, not_negative, positive
from ungan_dist.config.methods.presets import override


@dataclass(frozen=True, kw_only=True)
class UNSIRSettings:
    """Complete settings of a variant, with the same field names as ``UNSIRConfig``."""

    noise_learning_rate: float
    noise_steps: int
    impair_epochs: int
    repair_epochs: int
    learning_rate: float
    repair_learning_rate: float
    optimizer: Literal["sgd", "adam"]


_UNSIR_PER_BATCH = UNSIRSettings(
    noise_learning_rate=0.01,
    noise_steps=5,
    impair_epochs=2,
    repair_epochs=1,
    learning_rate=1e-3,
    repair_learning_rate=1e-3,
    optimizer="sgd",
)
_UNSIR_PER_CLASS = UNSIRSettings(
    noise_learning_rate=0.1,
    noise_steps=40,
    impair_epochs=1,
    repair_epochs=1,
    learning_rate=0.02,
    repair_learning_rate=0.01,
    optimizer="adam",
)


@dataclass(frozen=True, kw_only=True)
class UNSIRConfig:
    """UNSIR: impair the model with error-maximising noise, then repair it on retain examples."""

    variant: Literal["sample", "mufac", "class"] = "sample"
    """sample: learn noise against each forget batch's labels. mufac: learn it against the outputs on the batch
    and label it as the retain batch. class: learn noise against each forget class (Tarun et al.)."""
    noise_learning_rate: float | None = None
    """Adam's learning rate for the noise; defaults to the variant's."""
    noise_steps: int | None = None
    """Optimizer steps per noise batch; defaults to the variant's."""
    impair_epochs: int | None = None
    """Epochs of impair steps; defaults to the variant's."""
    repair_epochs: int | None = None
    """Repair epochs on retain examples; defaults to the variant's."""
    learning_rate: float | None = None
    """The model's learning rate in impair steps; defaults to the variant's."""
    repair_learning_rate: float | None = None
    """The model's learning rate in repair steps; defaults to the variant's."""
    optimizer: Literal["sgd", "adam"] | None = None
    """The model's optimizer; defaults to the variant's."""
    impair_pass: Literal["retain", "forget"] = "retain"
    """sample, mufac: the set that an impair epoch passes over once; the other set is cycled. retain fits the times in
    Table 1."""
    eval_mode: bool = field(default=False, metadata=ADDED)
    """mufac: keep the model in eval mode, and end an impair epoch with the shorter of the two sets, as MUFAC's notebook
    does."""
    noise_penalty: float = 0.1
    """class: weight of the noise's mean squared norm in its loss."""
    noise_copies: int = 20
    """class: copies of each class's noise in the impair set."""
    retain_per_class: int = 1000
    """class: maximum number of retain examples per class in the impair and repair sets."""

    def __post_init__(self) -> None:
        positive(
            noise_learning_rate=self.noise_learning_rate,
            impair_epochs=self.impair_epochs,
            learning_rate=self.learning_rate,
            repair_learning_rate=self.repair_learning_rate,
            noise_copies=self.noise_copies,
            retain_per_class=self.retain_per_class,
        )
        if self.eval_mode and self.variant != "mufac":
            raise ValueError(f"unsir.eval_mode is of the variant mufac, got {self.variant}: set --unsir.variant mufac")
        not_negative(noise_steps=self.noise_steps, repair_epochs=self.repair_epochs, noise_penalty=self.noise_penalty)

    def settings(self) -> UNSIRSettings:
        """Return the variant's settings, overridden by the fields that are set here."""
        return override(_UNSIR_PER_CLASS if self.variant == "class" else _UNSIR_PER_BATCH, self)
