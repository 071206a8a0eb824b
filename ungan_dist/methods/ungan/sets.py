"""What the forms of UnGAN need of their sets: that none is empty, the length of a pass, Ĝ on unseen examples."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ungan_dist.data.examples import gather
from ungan_dist.methods.request import Request
from ungan_dist.training.batch_norm import forward


def refuse_empty_sets(request: Request) -> None:
    """Refuse a request without retain, forget or unseen examples.

    Raises:
        ValueError: one of the three sets is empty.
    """
    for name in ("retain", "forget", "unseen"):
        if len(getattr(request, name)) == 0:
            raise ValueError(f"the set {name!r} is empty; UnGAN needs forget, unseen and retain examples")


def count_batches(request: Request, batch_size: int) -> int:
    """Return the steps of one pass over D, ⌈|D| / batch⌉."""
    return math.ceil((len(request.retain) + len(request.forget)) / batch_size)


def evaluate_unseen(request: Request, batch_size: int) -> Float[Tensor, "examples classes"]:
    """Return Ĝ(x_u) at the examples' own indices; all other rows are NaN."""
    data, world = request.data, request.world
    logits = data.table.new_full((len(data.labels), data.num_classes), torch.nan)
    with torch.no_grad():
        for indices in request.unseen.split(batch_size):
            own = forward(request.original, gather(data, world.share(indices)))
            logits[indices] = world.gather(own, len(indices))
    return logits
