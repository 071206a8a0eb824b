"""Evaluate a trained model: log-odds of every query view, and accuracy. Always in eval mode, never augmented."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config.attack import QueryView
from ungan_dist.data.examples import Examples, gather
from ungan_dist.errors import Diverged
from ungan_dist.kernels import log_odds
from ungan_dist.training.world import SINGLE_PROCESS, World

BATCH_SIZE = 1024
"""Examples in a batch; the last batch of a set may be smaller."""


def _logits(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"], view: QueryView, world: World = SINGLE_PROCESS
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and labels batch by batch; eval mode is required, since batch statistics leak membership."""
    if model.training:
        raise ValueError("the model is in training mode, where batch statistics leak membership: call model.eval()")
    for batch in map(world.share, indices.split(BATCH_SIZE)):
        images = gather(data, batch, shift=int(view == "shift"), flip=view == "flip")
        yield model(images), data.labels[batch]


@torch.no_grad()
def query(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"], queries: tuple[QueryView, ...]
) -> Float[np.ndarray, "set queries"]:
    """Return the log-odds of the true class under each view, in float32.

    Raises:
        Diverged: some log-odds are not finite.
    """
    impl = data.implementation("log_odds")
    columns = [
        torch.cat(
            [log_odds(logits[None], labels, impl=impl)[0] for logits, labels in _logits(model, data, indices, view)]
        )
        for view in queries
    ]
    log_odds_of_set = torch.stack(columns, dim=1).float().cpu().numpy()
    broken = int((~np.isfinite(log_odds_of_set)).any(axis=1).sum())
    if broken:
        raise Diverged(
            f"the model has diverged: its log-odds are not finite on {broken} of {len(indices)} examples; "
            f"lower the learning rate it was trained with"
        )
    return log_odds_of_set


@torch.no_grad()
def accuracy(model: nn.Module, data: Examples, indices: Int[Tensor, " set"], world: World = SINGLE_PROCESS) -> float:
    """Return the fraction of a set that is classified correctly; the processes of a world divide the set."""
    each = _logits(model, data, indices, "plain", world)
    correct = sum(((logits.argmax(dim=1) == labels).sum() for logits, labels in each), torch.tensor(0))
    return int(world.sum(correct.to(data.device))) / len(indices)
