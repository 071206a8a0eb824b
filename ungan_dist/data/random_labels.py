"""Random labels in place of true ones."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ungan_dist.data.examples import Examples


def draw_random_labels(
    data: Examples, indices: Int[Tensor, " set"], seed: int, *, exclude_true: bool = False
) -> Int[Tensor, " examples"]:
    """Return the data's labels, with new ones on a set: uniform over all classes or over the wrong ones.

    Args:
        data: The data set.
        indices: The set.
        seed: Seed of the draw.
        exclude_true: Draw from the wrong classes only.
    """
    labels, num_classes = data.labels.clone(), data.num_classes
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = torch.from_numpy(generator.integers(int(exclude_true), num_classes, len(indices))).to(labels)
    labels[indices] = (labels[indices] + drawn) % num_classes if exclude_true else drawn
    return labels
