"""Membership of the shadow models: the half of the pool on which each is trained."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from ungan_dist.data.split import seeded_generator


def draw_membership(num_models: int, num_examples: int, seed: int) -> Bool[np.ndarray, "models examples"]:
    """Draw the training examples of each shadow model.

    Models 2j and 2j + 1 have complementary halves, drawn from (seed, j) alone. Every model thus has exactly half of the
    examples, and every example is in exactly half of the models. More models extend the matrix of fewer models.

    Raises:
        ValueError: an odd number of models or examples.
    """
    if num_models < 2 or num_models % 2:
        raise ValueError(f"num_models must be even and at least 2, got {num_models}")
    if num_examples < 2 or num_examples % 2:
        raise ValueError(f"num_examples must be even and at least 2, got {num_examples}")
    membership = np.zeros((num_models, num_examples), dtype=bool)
    for pair in range(num_models // 2):
        half = seeded_generator(seed, 2, pair).permutation(num_examples)[: num_examples // 2]
        membership[2 * pair, half] = True
        membership[2 * pair + 1] = ~membership[2 * pair]
    return membership
