"""Options of UnGAN with a binary classifier as critic, as in the notebooks that its authors published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ungan_dist.config.checks import not_negative, positive


@dataclass(frozen=True, kw_only=True)
class UnGANBCEConfig:
    """UnGAN with binary cross-entropy: an ordinary GAN on the model's outputs, without a distance.

    This is the form of the authors' published notebooks (March 2024), not of the paper. Known of them are the loss, the
    label embedding, GELU, the critic's Adam with its pretraining, 30 epochs, the model's Adam at 2e-5, and one joint
    step with a tenth of the cross-entropy. The other options are ours.
    """

    epochs: int = 30
    """Number of epochs."""
    steps: int | None = None
    """Joint steps per epoch; defaults to ⌈|D| / batch⌉."""
    batch_size: int | None = None
    """Retain examples per joint step; defaults to the training recipe's batch size."""
    forget_batch_size: int | None = None
    """Forget and unseen examples per step, at most as many as there are; defaults to the retain batch's size."""
    alpha: float = 0.1
    """Weight of the cross-entropy on retain examples, beside the adversarial loss."""
    learning_rate: float = 2e-5
    """Learning rate of the model's Adam."""
    critic_pretraining: int = 100
    """Steps of the critic before the first epoch; the notebooks take 100 to 200."""
    critic_steps: int = 50
    """Steps of the critic at the beginning of each epoch; one of the notebooks takes 5."""
    critic_learning_rate: float = 2e-4
    """Learning rate of the critic's Adam; the notebooks take 2e-4 to 1.2e-3."""
    critic_widths: tuple[int, int] = (128, 128)
    """Widths of the critic's two hidden layers, with GELU after each."""
    label_embedding: int = 16
    """Width of the learnt embedding of the label, beside the model's logits."""

    def __post_init__(self) -> None:
        positive(
            epochs=self.epochs,
            steps=self.steps,
            batch_size=self.batch_size,
            forget_batch_size=self.forget_batch_size,
            learning_rate=self.learning_rate,
            critic_learning_rate=self.critic_learning_rate,
            label_embedding=self.label_embedding,
            **{f"critic_widths[{i}]": width for i, width in enumerate(self.critic_widths)},
        )
        not_negative(alpha=self.alpha, critic_pretraining=self.critic_pretraining, critic_steps=self.critic_steps)


BCE_VARIANTS: dict[str, dict[str, Any]] = {
    "ungan_bce_random_critic": {"critic_pretraining": 0, "critic_steps": 0},
}
"""Row → config fields that it changes: the control with a critic that is never trained."""
