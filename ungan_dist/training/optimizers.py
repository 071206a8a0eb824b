"""Optimizers in torch's fastest form for their device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def make_optimizer(kind: type[torch.optim.Optimizer], parameters: Iterable[Tensor], **options: Any) -> Any:
    """Create an optimizer, fused on CPUs and GPUs.

    A fused step reads gradients in the order of memory. They must have the strides of their parameters, as those that
    ``backward`` makes do.

    Examples:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> make_optimizer(torch.optim.SGD, [weight], lr=0.1).param_groups[0]["fused"]
        True
    """
    parameters = list(parameters)
    is_fused = all(one.device.type in ("cpu", "cuda") and one.is_floating_point() for one in parameters)
    return kind(parameters, **options, fused=is_fused, foreach=not is_fused)  # pyright: ignore[reportCallIssue]
