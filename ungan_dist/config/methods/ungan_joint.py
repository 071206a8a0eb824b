"""Options of joint UnGAN, which takes the adversarial and the fine-tuning step together, and its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ungan_dist.config.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class UnGANJointConfig:
    """Joint UnGAN: one step keeps the retain set and moves the forget set towards unseen outputs.

    This is no algorithm of the paper. It keeps the paper's aim and its weights of cross-entropy and divergence to each
    other, and changes the schedule: one forward pass in training mode takes retain and forget examples together. The
    distance is between log-odds of the true class, the quantity that LiRA reads. A second term says which example gets
    which of the unseen log-odds: the order is the original's on mirrored and shifted copies, of which it has memorised
    less.
    """

    epochs: int = 7
    """Passes over the training set D, in numbers of steps."""
    steps: int | None = None
    """Steps per epoch; defaults to ⌈|D| / batch⌉."""
    batch_size: int | None = None
    """Retain examples per step; defaults to the training recipe's batch size."""
    forget_batch_size: int | None = None
    """Forget examples per step, at most the forget set; defaults to the retain batch's size."""
    distance: Literal["energy", "critic"] = "energy"
    """energy: energy distance of the log-odds, exact over all pairs. critic: Cramer surrogate of a learnt critic that
    sees the log-odds in the column of their class, beside the one-hot label."""
    within: Literal["classes", "all"] = "all"
    """Energy distance over all classes at once, or within each class, weighted by its forget examples."""
    beta: float = 0.5
    """Weight of the distance."""
    pairing: float = 0.5
    """Weight of the mean absolute difference between each forget example's log-odds and its own target. Targets follow
    the order of the log-odds of moved copies; of features, which have none, that of their own log-odds."""
    alpha: float = 1.0
    """Weight of the cross-entropy on retain examples."""
    gamma: float = 0.5
    """Weight of the divergence KL(G ‖ Ĝ) on retain examples."""
    learning_rate: float | None = None
    """Initial learning rate of SGD, with the recipe's momentum; annealed by a cosine over all steps. Defaults to half
    of the training recipe's."""
    weight_decay: float = 0.0
    """L2 penalty on the generator's weights."""
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
            pairing=self.pairing,
            alpha=self.alpha,
            gamma=self.gamma,
            weight_decay=self.weight_decay,
            critic_steps=self.critic_steps,
            critic_pretraining=self.critic_pretraining,
            penalty_weight=self.penalty_weight,
        )


JOINT_VARIANTS: dict[str, dict[str, Any]] = {
    "ungan_joint_no_adversary": {"beta": 0.0, "pairing": 0.0},
    "ungan_joint_no_pairing": {"beta": 1.0, "pairing": 0.0},
    "ungan_joint_no_distance": {"beta": 0.0, "pairing": 1.0},
    "ungan_joint_critic": {"distance": "critic", "beta": 1.0, "pairing": 0.0},
    "ungan_joint_random_critic": {
        "distance": "critic",
        "beta": 1.0,
        "pairing": 0.0,
        "critic_steps": 0,
        "critic_pretraining": 0,
    },
}
"""Row → config fields that it changes: the control without distance and pairing, each of the two terms alone, and the
learnt critic with its own control, an untrained one."""
