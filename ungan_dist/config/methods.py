"""One frozen config a method: its hyper-parameters, and the variants in which published codes differ.

A field that is none takes its preset's value: ``settings()`` says which. Imports neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ungan_dist.config.checks import not_negative, positive, within

Settings = TypeVar("Settings", "UNSIRSettings", "SCRUBSettings")


def _filled(preset: Settings, config: Any) -> Settings:
    """The preset with every field of the config that is not none put in its place."""
    values = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(preset)}
    return dataclasses.replace(preset, **{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class OriginalConfig:
    """Original: the model as trained, nothing done."""


@dataclass(frozen=True, kw_only=True)
class UnlearnedConfig:
    """A model that was unlearned elsewhere: no method of ours runs."""

    weights: str
    """Its file: safetensors, or a checkpoint that ``torch.load(weights_only=True)`` reads."""
    sha256: str = ""
    """Of the file's bytes, as the plan found them; another content is refused."""


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """Retrain: the original's recipe from scratch on the retain set, the gold standard."""


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Fine-Tuning: cross-entropy on the retain set, SGD."""

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
    """Random Labels: cross-entropy on the whole training set, the forget set under random labels, AdamW."""

    epochs: int = 10
    """Passes over D_r ∪ D_f."""
    learning_rate: float = 5e-4
    """AdamW's learning rate."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    redraw: bool = False
    """Draw new labels before every epoch (SalUn) instead of once."""
    exclude_true: bool = False
    """Draw among the wrong classes only (amnesiac unlearning) instead of among all."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class NegGradsConfig:
    """Neg Grads: ascent on the cross-entropy of the forget set, then a short repair on the retain set, SGD."""

    epochs: int = 10
    """Passes over the forget set."""
    repair_epochs: int = 1
    """Passes over the retain set afterwards: in the authors' code, not in the paper. 0 leaves them out."""
    learning_rate: float = 0.01
    """SGD, ascent and repair."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        not_negative(repair_epochs=self.repair_epochs)


@dataclass(frozen=True, kw_only=True)
class AdvNegGradsConfig:
    """Adv. Neg Grads: descent on the retain set's cross-entropy and ascent on the forget set's in one step, SGD."""

    epochs: int = 2
    """Passes over the retain set; forget batches are cycled."""
    learning_rate: float = 1e-3
    """SGD."""
    alpha: float | None = None
    """none: CE_r − CE_f. Otherwise α·CE_r − (1 − α)·CE_f, NegGrad+; SCRUB's code has 0.95 and 0.9999."""

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        if self.alpha is not None:
            within(0, 1, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class CFkConfig:
    """CF-k: fine-tuning of the last stages alone, the ones before them frozen, SGD."""

    k: int | None = None
    """Stages left free, counted from the last; none: half of them, 3 of a ResNet's 6, 2 of the small CNN's 4."""
    train_classifier: bool = True
    """Count the classifying layer in and train it; off with ``k=2`` trains layer4 alone, as SCRUB's code does."""
    epochs: int = 2
    """Passes over the retain set."""
    learning_rate: float = 1e-3
    """SGD."""
    update_frozen_statistics: bool = False
    """Let frozen batch norms go on updating their running statistics, as a model left in training mode does."""

    def __post_init__(self) -> None:
        positive(k=self.k, epochs=self.epochs, learning_rate=self.learning_rate)
        if self.k == 1 and not self.train_classifier:
            raise ValueError("k 1 without train_classifier leaves nothing to train: raise k or set train_classifier")


@dataclass(frozen=True, kw_only=True)
class UNSIRSettings:
    """What a variant of UNSIR decides; the fields are UNSIRConfig's."""

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
    """UNSIR: noise on which the model errs most impairs it, retain examples repair it."""

    variant: Literal["sample", "mufac", "class"] = "sample"
    """sample: noise against each forget batch's labels. mufac: against its outputs, labelled as the retain batch.
    class: noise against each class of the forget set (Tarun et al.)."""
    noise_learning_rate: float | None = None
    """Adam on the noise; none: as the variant has it."""
    noise_steps: int | None = None
    """Steps a noise is learnt for; none: as the variant has it."""
    impair_epochs: int | None = None
    """Passes of steps with noise; none: as the variant has it."""
    repair_epochs: int | None = None
    """Passes over retain examples alone."""
    learning_rate: float | None = None
    """Of the model while it is impaired; none: as the variant has it."""
    repair_learning_rate: float | None = None
    """Of the model while it is repaired; none: as the variant has it."""
    optimizer: Literal["sgd", "adam"] | None = None
    """On the model; none: as the variant has it."""
    impair_pass: Literal["retain", "forget"] = "retain"
    """sample, mufac: an impair epoch has a step for each retain batch, forget batches cycled (what the times in Table 1
    fit), or for each forget batch, retain batches cycled."""
    noise_penalty: float = 0.1
    """class: weight of the noise's mean squared norm."""
    noise_copies: int = 20
    """class: how often the noise of a class stands in the impair set."""
    retain_per_class: int = 1000
    """class: retain examples of each class in the impair and repair sets, or as many as there are."""

    def __post_init__(self) -> None:
        positive(
            noise_learning_rate=self.noise_learning_rate,
            impair_epochs=self.impair_epochs,
            learning_rate=self.learning_rate,
            repair_learning_rate=self.repair_learning_rate,
            noise_copies=self.noise_copies,
            retain_per_class=self.retain_per_class,
        )
        not_negative(noise_steps=self.noise_steps, repair_epochs=self.repair_epochs, noise_penalty=self.noise_penalty)

    def settings(self) -> UNSIRSettings:
        """The variant's values, changed where a field here is not none."""
        return _filled(_UNSIR_PER_CLASS if self.variant == "class" else _UNSIR_PER_BATCH, self)


@dataclass(frozen=True, kw_only=True)
class SCRUBSettings:
    """What a preset of SCRUB decides; the fields are SCRUBConfig's."""

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
        retain_batch_size=128,
        forget_batch_size=32,
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
    ),
}


@dataclass(frozen=True, kw_only=True)
class SCRUBConfig:
    """SCRUB: away from the original on the forget set, near to it on the retain set, in turns."""

    preset: Literal["large_scale", "small_scale", "mia"] = "large_scale"
    """The published code's settings; a field below that is not none takes the place of the preset's."""
    gamma: float | None = None
    """Weight of cross-entropy on the retain set; none: as the preset has it."""
    alpha: float | None = None
    """Weight of the divergence from the original on the retain set; none: as the preset has it."""
    temperature: float | None = None
    """T of the divergence; none: as the preset has it."""
    msteps: int | None = None
    """The first so many epochs begin with a pass over the forget set; none: as the preset has it."""
    epochs: int | None = None
    """Passes over the retain set; none: as the preset has it."""
    optimizer: Literal["sgd", "adam"] | None = None
    """On the student; Adam's weight decay is L2, not decoupled; none: as the preset has it."""
    momentum: float | None = None
    """SGD momentum; none: as the preset has it."""
    weight_decay: float | None = None
    """L2 penalty; none: as the preset has it."""
    learning_rate: float | None = None
    """Before any decay; none: as the preset has it."""
    decay_epochs: tuple[int, ...] | None = None
    """Epochs, counted from 1, after each of which the rate is divided by 10; none: as the preset has it."""
    retain_batch_size: int | None = None
    """None: 128 with large_scale, elsewhere the training recipe's."""
    forget_batch_size: int | None = None
    """None: 32 with large_scale, elsewhere the training recipe's."""
    rewind: bool = False
    """SCRUB+R: give back the epoch whose forget error is nearest the final error on unseen examples."""

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
        """The preset's values, changed where a field here is not none."""
        return _filled(_SCRUB_PRESETS[self.preset], self)


@dataclass(frozen=True, kw_only=True)
class UnGANConfig:
    """UnGAN, Algorithms 1–4; where the paper must be read, the default is the first of the values named."""

    epochs: int = 8
    """Outer rounds, N_e."""
    critic_steps: int | None = None
    """Algorithm 2 a round, T_d; none: max(1, ⌊|D_f| / batch⌋)."""
    generator_steps: int | None = None
    """Algorithm 3 a round, T_g; none: as critic_steps would be."""
    finetune_steps: int | None = None
    """Algorithm 4 a round, T_f; none: ⌈|D| / batch⌉."""
    batch_size: int | None = None
    """Examples drawn from each set a step; none: the training recipe's."""
    inclusive_loops: bool = False
    """Read "for n = 0 … N" as N + 1 turns."""
    critic_widths: tuple[int, int, int] = (128, 128, 128)
    """Widths of the critic's three layers; the last is the embedding."""
    critic_learning_rate: float = 1e-3
    """SGD on the critic."""
    critic_weight_decay: float = 5e-4
    """L2 penalty on the critic's weights."""
    learning_rate: float = 5e-4
    """Adam on the generator."""
    weight_decay: float = 5e-5
    """L2 (not decoupled) on the generator's weights."""
    optimizers: Literal["shared", "separate"] = "shared"
    """One Adam for generator and fine-tuning steps, or one each."""
    alpha: float = 1 / 16
    """Weight of cross-entropy in fine-tuning steps."""
    gamma: float = 1 / 32
    """Weight of the divergence from the original in fine-tuning steps."""
    kl_direction: Literal["student_first", "teacher_first"] = "student_first"
    """student_first: KL(G ‖ Ĝ) as eq. 9 writes it; teacher_first: KL(Ĝ ‖ G)."""
    penalty: Literal["squared", "as_written"] = "squared"
    """(‖∇‖ − 1)² as in Cramer GAN, or ‖∇‖ − 1 as Algorithm 2 prints it."""
    penalty_of: Literal["critic", "embedding_sum", "embedding_norm", "jacobian"] = "critic"
    """What is differentiated: f(ẑ), the sum of D(ẑ), the norm of D(ẑ), or D's Jacobian (Frobenius norm)."""
    penalty_weight: float = 10.0
    """λ of eq. 7."""
    epsilon_per: Literal["row", "batch"] = "row"
    """One mixing coefficient a row, or one a batch."""
    mix_labels: bool = True
    """Mix the label columns too; otherwise ẑ carries the forget examples' labels."""
    estimator: Literal["paired", "all_pairs"] = "paired"
    """The paper's paired norms, or the unbiased U-statistic over all pairs."""
    surrogate: Literal["cramer", "energy"] = "cramer"
    """eq. 8, or a second unseen batch in place of the origin."""
    critic_input: Literal["logits", "softmax"] = "logits"
    """What of the model's output the critic sees, beside the one-hot label."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Mode of the generator's batch norm in critic and generator steps; fine-tuning steps train."""
    augment_adversarial: bool = False
    """Augment x_f and x_u too."""

    def __post_init__(self) -> None:
        positive(
            epochs=self.epochs,
            batch_size=self.batch_size,
            critic_learning_rate=self.critic_learning_rate,
            learning_rate=self.learning_rate,
            **{f"critic_widths[{i}]": width for i, width in enumerate(self.critic_widths)},
        )
        not_negative(
            critic_steps=self.critic_steps,
            generator_steps=self.generator_steps,
            finetune_steps=self.finetune_steps,
            critic_weight_decay=self.critic_weight_decay,
            weight_decay=self.weight_decay,
            alpha=self.alpha,
            gamma=self.gamma,
            penalty_weight=self.penalty_weight,
        )
