"""Options of joint UnGAN, which takes the adversarial and the fine-tuning step together, and its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ungan_dist.config.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class UnGANJointConfig:
    """Joint UnGAN: one step lowers the loss on the retain set and the distance of forgotten from unseen outputs.

    This is no algorithm of the paper. It keeps the paper's aim and its loss weights, and changes the schedule: one
    forward pass in training mode takes retain and forget examples together. The distance is between log-odds of the
    true class, the quantity that LiRA reads.
    """

    epochs: int = 8
    """Passes over the training set D, in numbers of steps."""
    steps: int | None = None
    """Steps per epoch; defaults to ⌈|D| / batch⌉."""
    batch_size: int | None = None
    """Retain examples per step; defaults to the training recipe's batch size."""
    forget_batch_size: int | None = None
    """Forget examples per step; defaults to the whole forget set, at most eight times the retain batch."""
    distance: Literal["energy", "critic"] = "energy"
    """energy: energy distance of the log-odds, exact over all pairs. critic: Cramer surrogate of a learnt critic that
    sees the log-odds in the column of their class, beside the one-hot label."""
    within: Literal["classes", "all"] = "classes"
    """Energy distance within each class, weighted by its forget examples, or over all classes at once."""
    beta: float = 1 / 16
    """Weight of the distance."""
    alpha: float = 1 / 16
    """Weight of the cross-entropy on retain examples."""
    gamma: float = 1 / 32
    """Weight of the divergence KL(G ‖ Ĝ) on retain examples."""
    learning_rate: float = 5e-4
    """Learning rate of the generator's Adam."""
    weight_decay: float = 5e-5
    """L2 penalty (not decoupled) on the generator's weights."""
    critic_steps: int = 5
    """With distance critic, the critic's steps before each joint step."""
    critic_pretraining: int = 100
    """With distance critic, the critic's steps before the first joint step."""
    critic_learning_rate: float = 1e-3
    """Learning rate of the critic's Adam."""
    critic_widths: tuple[int, int, int] = (128, 128, 128)
    """Widths of the critic's three layers."""
    penalty_weight: float = 10.0
    """Weight of the critic's gradient penalty."""

    def __post_init__(self) -> None:
        positive(
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batch_size,
            forget_batch_size=self.forget_batch_size,
            learning_rate=self.learning_rate,
            critic_learning_rate=self.critic_learning_rate,
            **{f"critic_widths[{i}]": width for i, width in enumerate(self.critic_widths)},
        )
        not_negative(
            beta=self.beta,
            alpha=self.alpha,
            gamma=self.gamma,
            weight_decay=self.weight_decay,
            critic_steps=self.critic_steps,
            critic_pretraining=self.critic_pretraining,
            penalty_weight=self.penalty_weight,
        )


JOINT_VARIANTS: dict[str, dict[str, Any]] = {
    "ungan_joint_no_adversary": {"beta": 0.0},
    "ungan_joint_all_classes": {"within": "all"},
    "ungan_joint_critic": {"distance": "critic"},
    "ungan_joint_random_critic": {"distance": "critic", "critic_steps": 0, "critic_pretraining": 0},
}
"""Row → config fields that it changes: the control without a distance, the distance over all classes, and the learnt
critic with its own control, an untrained one."""
