"""UnGAN's further rows: the two controls, and every other reading of the paper, one factor at a time.

A reading explores; nothing that comes nearest to Table 1 becomes a default without fresh seeds.
"""

from __future__ import annotations

from typing import Any, Literal

Variant = Literal[
    "ungan_no_adversary",
    "ungan_random_critic",
    "ungan_penalty_as_written",
    "ungan_penalty_of_embedding_sum",
    "ungan_penalty_of_embedding_norm",
    "ungan_penalty_of_jacobian",
    "ungan_penalty_weight_1",
    "ungan_epsilon_per_batch",
    "ungan_labels_not_mixed",
    "ungan_all_pairs",
    "ungan_energy",
    "ungan_energy_all_pairs",
    "ungan_softmax",
    "ungan_inclusive_loops",
    "ungan_separate_optimizers",
    "ungan_teacher_first",
    "ungan_batch_norm_train",
    "ungan_augmented",
]
"""Names of rows that are UnGAN with some fields changed."""

CHANGES: dict[Variant, dict[str, Any]] = {
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
"""What each row changes in the run's ``UnGANConfig``; the first two are the method's controls."""

CONTROLS: tuple[Variant, ...] = ("ungan_no_adversary", "ungan_random_critic")
"""Rows that belong to UnGAN's own results: no adversary at all, and a critic that is never trained."""


def title(variant: str) -> str:
    """A variant's row in words."""
    return "UnGAN, " + variant.removeprefix("ungan_").replace("_", " ")
