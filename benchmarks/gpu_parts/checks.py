"""How far trained weights are from those expected."""

from __future__ import annotations

import torch
from torch import nn


def relative_error(found: nn.Module, expected: nn.Module, initial: nn.Module) -> float:
    """Return the distance to the expected weights, relative to how far training has moved them."""
    ours, theirs, start = (
        torch.cat([weight.detach().double().flatten() for weight in model.parameters()])
        for model in (found, expected, initial)
    )
    return float((ours - theirs).norm() / (theirs - start).norm())
