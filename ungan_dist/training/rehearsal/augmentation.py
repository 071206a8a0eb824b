"""Check a transform of the user's own on a few examples."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.config.user_code import run_user_code
from ungan_dist.data.examples import Examples, gather

NUM_TRIED = 16
"""Examples that are augmented."""


def check_transform(data: Examples, indices: Int[Tensor, " set"], augment: AugmentConfig) -> None:
    """Augment examples together, and then each alone in the opposite order.

    Raises:
        ValueError: the transform fails, or its result depends on anything but the seed, the epoch and the example.
    """
    some = indices[:NUM_TRIED]
    with run_user_code(f"train.augment.factory {augment.factory}"):
        together = gather(data, some, augment=augment)
        alone = torch.cat([gather(data, one, augment=augment) for one in some.flip(0).split(1)]).flip(0)
    if not torch.equal(together, alone):
        raise ValueError(
            f"train.augment.factory {augment.factory} gives two results for one seed, epoch and example: let its "
            f"transform draw from torch's generator alone, not from random or numpy, and keep no state"
        )
