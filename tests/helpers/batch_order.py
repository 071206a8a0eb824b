"""The batches of a pass as indices alone, without the rows that trainings draw."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from ungan_dist.data.examples import cycle_passes, shuffle_set
from ungan_dist.data.rows import split_pass


def iterate_batches(
    indices: Int[Tensor, " set"], batch_size: int, *, seed: int, epoch: int
) -> Iterator[Int[Tensor, " batch"]]:
    """Iterate over a set once in shuffled order: see ``split_pass``."""
    order = shuffle_set(indices, seed, epoch)
    for batch in split_pass(len(order), batch_size):
        yield order[batch]


def cycle_batches(
    indices: Int[Tensor, " set"], batch_size: int, *, seed: int
) -> Iterator[tuple[int, Int[Tensor, " batch"]]]:
    """Iterate over the batches of ``cycle_passes``, with their pass's number."""
    for epoch, rows in cycle_passes(indices.cpu().numpy(), batch_size, seed=seed):
        for batch in torch.from_numpy(rows).to(indices.device).split(batch_size):
            yield epoch, batch
