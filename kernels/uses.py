"""The operations that a computation uses, at its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class KernelUse:
    """One operation at the shapes and options of its calls.

    Examples:
        >>> KernelUse(operation="log_odds", shapes={"models": 1, "batch": 1024, "classes": 10}).operation
        'log_odds'
    """

    operation: str
    shapes: Mapping[str, Any] = field(default_factory=dict)
    """Sizes and options by name, as plain data; ``kernels.self_check`` makes inputs from them."""
    obstacle: str | None = None
    """Reason why these calls have no fused implementation, or None."""
