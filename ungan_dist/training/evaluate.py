"""Evaluate a trained model: log-odds of every query view, and accuracy. Always in eval mode, never augmented."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config.attack import QueryView, View, list_views
from ungan_dist.data.examples import Examples, gather
from ungan_dist.errors import Diverged
from ungan_dist.kernels import log_odds
from ungan_dist.training.world import SINGLE_PROCESS, World

BATCH_SIZE = 1024
"""Examples in a batch; the last batch of a set may be smaller."""


def _logits(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"], view: View, world: World = SINGLE_PROCESS
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and labels batch by batch; eval mode is required, since batch statistics leak membership."""
    if model.training:
        raise ValueError("the model is in training mode, where batch statistics leak membership: call model.eval()")
    for batch in map(world.share, indices.split(BATCH_SIZE)):
        images = gather(data, batch, flip=view.flip)
        if view.right or view.down:
            images = move_images(images, view.right, view.down, data.table[0])
        yield model(images), data.labels[batch]


def move_images(
    images: Float[Tensor, "batch channels height width"], right: int, down: int, fill: Float[Tensor, " channels"]
) -> Float[Tensor, "batch channels height width"]:
    """Move images by some pixels; new pixels have the given value of each channel.

    Examples:
        >>> move_images(torch.arange(4.0).view(1, 1, 2, 2), right=1, down=0, fill=torch.tensor([9.0]))
        tensor([[[[9., 0.],
                  [9., 2.]]]])
    """
    if not right and not down:
        return images
    height, width = images.shape[2:]
    moved = torch.empty_like(images).copy_(fill.to(images.dtype)[:, None, None])
    source = images[:, :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    moved[:, :, max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)] = source
    return moved


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
        for view in list_views(queries)
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
def query_probabilities(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"]
) -> Float[np.ndarray, "set classes"]:
    """Return the probabilities of every class, without shift or flip, in float32."""
    batches = [logits.softmax(dim=1) for logits, _ in _logits(model, data, indices, View())]
    return torch.cat(batches).float().cpu().numpy()


@torch.no_grad()
def query_entropies(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"], queries: tuple[QueryView, ...]
) -> Float[np.ndarray, "set 2"]:
    """Return the modified entropy and the entropy of each prediction in nats, mean over the views, in float32."""
    views = [
        torch.cat([measure_entropies(logits, labels) for logits, labels in _logits(model, data, indices, view)])
        for view in list_views(queries)
    ]
    return torch.stack(views).mean(0).float().cpu().numpy()


def measure_entropies(
    logits: Float[Tensor, "examples classes"], labels: Int[Tensor, " examples"]
) -> Float[Tensor, "examples 2"]:
    """Measure the modified entropy of each prediction for its true class, and its entropy, in nats.

    The modified entropy is ``−(1 − p_y) log p_y − Σ_{i≠y} p_i log(1 − p_i)``. It is 0 if the true class is certain, and
    without bound if another class is.

    Source: Song & Mittal 2021, eq. 8.

    Examples:
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]])
        >>> [[round(value, 2) for value in row] for row in measure_entropies(logits, torch.tensor([0, 1])).tolist()]
        [[0.69, 0.69], [18.0, 0.0]]
    """
    log_p = torch.log_softmax(logits.double(), dim=1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(1)
    # log(1 - p) of the largest p, which may round to 1, is that of the sum of all others
    top = log_p.argmax(dim=1, keepdim=True)
    log_rest = torch.log1p(-p).scatter(1, top, log_p.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True))
    true = labels[:, None]
    own = -(log_rest.gather(1, true).exp() * log_p.gather(1, true)).squeeze(1)
    others = (p * log_rest).scatter(1, true, 0.0).sum(1)
    return torch.stack([own - others, entropy], dim=1)


@torch.no_grad()
def accuracy(model: nn.Module, data: Examples, indices: Int[Tensor, " set"], world: World = SINGLE_PROCESS) -> float:
    """Return the fraction of a set that is classified correctly; the processes of a world divide the set."""
    each = _logits(model, data, indices, View(), world)
    correct = sum(((logits.argmax(dim=1) == labels).sum() for logits, labels in each), torch.tensor(0))
    return int(world.sum(correct.to(data.device))) / len(indices)
