"""Options of UnGAN, and its variants: further rows with some options changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ungan_dist.config.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class UnGANConfig:
    """UnGAN, Algorithms 1–4. Defaults follow the paper; penalty and penalty_of follow Cramer GAN instead."""

    epochs: int = 8
    """Number of rounds, N_e."""
    critic_steps: int | None = None
    """Steps of Algorithm 2 per round, T_d; defaults to max(1, ⌊|D_f| / batch⌋)."""
    generator_steps: int | None = None
    """Steps of Algorithm 3 per round, T_g; defaults to max(1, ⌊|D_f| / batch⌋)."""
    finetune_steps: int | None = None
    """Steps of Algorithm 4 per round, T_f; defaults to ⌈|D| / batch⌉."""
    batch_size: int | None = None
    """Examples per set and step; defaults to the training recipe's batch size."""
    inclusive_loops: bool = False
    """Read "for n = 0 … N" as N + 1 iterations."""
    critic_widths: tuple[int, int, int] = (128, 128, 128)
    """Widths of the critic's three layers; the last is the embedding."""
    critic_learning_rate: float = 1e-3
    """Learning rate of the critic's SGD."""
    critic_weight_decay: float = 5e-4
    """L2 penalty on the critic's weights."""
    learning_rate: float = 5e-4
    """Learning rate of the generator's Adam."""
    weight_decay: float = 5e-5
    """L2 penalty (not decoupled) on the generator's weights."""
    optimizers: Literal["shared", "separate"] = "shared"
    """shared: one Adam for generator and fine-tuning steps. separate: one for each."""
    alpha: float = 1 / 16
    """Weight of cross-entropy in fine-tuning steps."""
    gamma: float = 1 / 32
    """Weight of the divergence from the original in fine-tuning steps."""
    kl_direction: Literal["student_first", "teacher_first"] = "student_first"
    """student_first: KL(G ‖ Ĝ), as in eq. 9. teacher_first: KL(Ĝ ‖ G)."""
    penalty: Literal["squared", "as_written"] = "squared"
    """squared: (‖∇‖ − 1)², as in Cramer GAN. as_written: ‖∇‖ − 1, as in Algorithm 2."""
    penalty_of: Literal["critic", "embedding_sum", "embedding_norm", "jacobian"] = "critic"
    """Function whose gradient is penalised. critic: f(ẑ). The others: the sum of D(ẑ), its norm, or the
    Frobenius norm of D's Jacobian."""
    penalty_weight: float = 10.0
    """λ of eq. 7."""
    epsilon_per: Literal["row", "batch"] = "row"
    """Draw one mixing coefficient ε per row or per batch."""
    mix_labels: bool = True
    """Mix the label columns too; otherwise ẑ keeps the forget examples' labels."""
    estimator: Literal["paired", "all_pairs"] = "paired"
    """paired: the paper's paired norms. all_pairs: the unbiased U-statistic over all pairs."""
    surrogate: Literal["cramer", "energy"] = "cramer"
    """cramer: eq. 8. energy: a second unseen batch replaces the origin."""
    critic_input: Literal["logits", "softmax"] = "logits"
    """Form of the model's output that the critic sees, beside the one-hot label."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Mode of the generator's batch norms in critic and generator steps; fine-tuning steps use train."""
    augment_adversarial: bool = False
    """Augment x_f and x_u too, not only x_r."""

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


UNGAN_VARIANTS: dict[str, dict[str, Any]] = {
    "ungan_no_adversary": {"critic_steps": 0, "generator_steps": 0},
    "ungan_random_critic": {"critic_steps": 0},
    "ungan_penalty_as_written": {"penalty": "as_written"},
    "ungan_penalty_of_embedding_sum": {"penalty_of": "embedding_sum"},
    "ungan_penalty_of_embedding_norm": {"penalty_of": "embedding_norm"},
    "ungan_penalty_of_jacobian": {"penalty_of": "jacobian"},
    "ungan_penalty_weight_1": {"penalty_weight": 1.0},
    "ungan_epsilon_per_batch": {"epsilon_per": "batch"},
    "ungan_labels_not_mixed": {"mix_labels": False},
    "ungan_all_pairs": {"estimator": "all_pairs"},
    "ungan_energy": {"surrogate": "energy"},
    "ungan_energy_all_pairs": {"surrogate": "energy", "estimator": "all_pairs"},
    "ungan_softmax": {"critic_input": "softmax"},
    "ungan_inclusive_loops": {"inclusive_loops": True},
    "ungan_separate_optimizers": {"optimizers": "separate"},
    "ungan_teacher_first": {"kl_direction": "teacher_first"},
    "ungan_batch_norm_train": {"batch_norm": "train"},
    "ungan_augmented": {"augment_adversarial": True},
}
"""Row → config fields that it changes: two controls, then every other reading of the paper, one factor at a time.

The readings are exploratory. None becomes a default because it comes nearest to Table 1."""

CONTROLS = ("ungan_no_adversary", "ungan_random_critic")
"""Rows that every UnGAN result is compared with: no adversary, and an untrained critic."""
