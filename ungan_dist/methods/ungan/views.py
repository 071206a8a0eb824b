"""Estimate how a model that never saw an example would answer: from moved copies, on which less was memorised."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SHIFT = 1 / 16
"""Shift of a view, as a share of the shifted side; at least one pixel, but not the whole of a side."""

SIDES = ((0, 1), (2, 1), (1, 0), (1, 2))
"""Corners of the shifted image in the padded one, in shifts: down and right."""

MakeViews = Callable[[Float[Tensor, "batch channels ..."]], list[Tensor]]


def as_it_is(images: Float[Tensor, "batch channels ..."]) -> list[Tensor]:
    """List the images themselves, as the only view."""
    return [images]


def make_views(images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
    """List nine views: mirrored, shifted to each of four sides, and both. New pixels are 0.

    Examples:
        >>> views = make_views(torch.tensor([[[[1.0, 2.0, 3.0]]]]))
        >>> [views[number].flatten().tolist() for number in (0, 3, 4, 8)]
        [[3.0, 2.0, 1.0], [0.0, 1.0, 2.0], [2.0, 3.0, 0.0], [2.0, 1.0, 0.0]]
    """
    height, width = images.shape[2:]
    vertical, horizontal = (min(length - 1, max(1, round(SHIFT * length))) for length in (height, width))
    views = [mirrored := images.flip(3)]
    for each in (images, mirrored):
        padded = functional.pad(each, (horizontal, horizontal, vertical, vertical))
        for down, right in SIDES:
            rows = slice(down * vertical, down * vertical + height)
            views.append(padded[:, :, rows, right * horizontal : right * horizontal + width])
    return views


def assign_quantiles(estimates: Float[Tensor, " forget"], unseen: Float[Tensor, " unseen"]) -> Float[Tensor, " forget"]:
    """Give each example the quantile of the unseen values at the rank of its estimate.

    In one dimension this is the optimal transport from the estimates to the unseen values: it keeps their order, and
    gives them the others' distribution.

    Examples:
        >>> assign_quantiles(torch.tensor([5.0, -1.0]), torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]))
        tensor([3., 1.])
    """
    ranks = estimates.argsort(stable=True).argsort()
    ordered = unseen.sort().values
    # not torch.quantile, which refuses more than 16 million values
    place = (ranks.double() + 0.5) / len(estimates) * (len(unseen) - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(unseen) - 1)
    return torch.lerp(ordered[low], ordered[high], (place - low).to(ordered.dtype))
