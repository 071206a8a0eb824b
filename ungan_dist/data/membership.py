"""Membership of the shadow models: the half of the pool on which each is trained."""

from __future__ import annotations

from collections.abc import Sequence

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
    return draw_members(range(num_models), num_examples, seed)


def draw_members(models: Sequence[int], num_examples: int, seed: int) -> Bool[np.ndarray, "models examples"]:
    """Draw some rows of ``draw_membership``, in the time and memory of these rows alone.

    Raises:
        ValueError: an odd number of examples.

    Examples:
        >>> bool((draw_members([5, 2], 8, seed=0) == draw_membership(6, 8, seed=0)[[5, 2]]).all())
        True
    """
    if num_examples < 2 or num_examples % 2:
        raise ValueError(f"num_examples must be even and at least 2, got {num_examples}")
    membership = np.zeros((len(models), num_examples), dtype=bool)
    drawn, half = -1, np.zeros(0, dtype=np.int64)
    for row, model in enumerate(models):
        if model // 2 != drawn:
            drawn = model // 2
            half = seeded_generator(seed, 2, drawn).permutation(num_examples)[: num_examples // 2]
        membership[row, half] = True
        if model % 2:
            membership[row] = ~membership[row]
    return membership
