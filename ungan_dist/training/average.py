"""An exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """The EMA of tensors, in memory of its own; it begins at their first values.

    Integers, such as a batch norm's number of batches, are not averaged.
    """

    def __init__(self, tensors: Callable[[], Iterable[Tensor]], decay: float) -> None:
        """Begin the average.

        Args:
            tensors: Returns the tensors, always in the same order.
            decay: Weight of the average so far, at each update.
        """
        self._tensors, self._decay = tensors, decay
        self._averages = [tensor.detach().clone() for tensor in self._sources()]

    def _sources(self) -> list[Tensor]:
        return [tensor for tensor in self._tensors() if tensor.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Average once more."""
        for own, tensor in zip(self._averages, self._sources(), strict=True):
            own.lerp_(tensor, 1 - self._decay)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew at the present values."""
        for own, tensor in zip(self._averages, self._sources(), strict=True):
            own.copy_(tensor)

    @torch.no_grad()
    def write(self) -> None:
        """Put the averages in the tensors' place."""
        for own, tensor in zip(self._averages, self._sources(), strict=True):
            tensor.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        return {"averages": self._averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for own, saved in zip(self._averages, state["averages"], strict=True):
            own.copy_(saved)


def trained_tensors(model: nn.Module) -> list[Tensor]:
    """List the parameters that are not frozen, and the buffers, such as running statistics."""
    return [*(one for one in model.parameters() if one.requires_grad), *model.buffers()]
