"""The logits among a model's outputs, by one rule for tuples, dicts and the outputs of the library transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def unwrap_logits(model: nn.Module) -> nn.Module:
    """Let a model return its logits alone, in place: those named ``logits``, or else the first of a tuple or list.

    Examples:
        >>> import torch
        >>> class Both(nn.Module):
        ...     def forward(self, images):
        ...         return {"features": images, "logits": images.flatten(1)}
        >>> unwrap_logits(Both())(torch.zeros(2, 1, 3, 3)).shape
        torch.Size([2, 9])
    """
    model.register_forward_hook(_find_logits)
    return model


def _find_logits(model: nn.Module, inputs: Any, outputs: Any) -> Tensor | None:
    """Return the logits; None leaves the outputs as they are, which the rehearsal checks."""
    if isinstance(outputs, Tensor):
        return None
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if named is None and isinstance(outputs, (tuple, list)) and outputs:
        named = outputs[0]
    return named if isinstance(named, Tensor) else None
