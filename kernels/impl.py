"""Choose between the reference and the fused implementation of an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

_F = TypeVar("_F", bound=Callable[..., object])

Impl = Literal["auto", "reference", "fused"]
"""Implementation requested by the caller."""

FUSED = frozenset(
    {
        "cramer_surrogate",
        "critic_loss",
        "critic_sgd_step",
        "energy_distance",
        "energy_distance_1d",
        "generator_loss",
        "gather_augmented",
        "gradient_penalty",
        "log_odds",
    }
)
"""Operations that have a fused implementation."""


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """The implementation of a call, and why it was chosen."""

    name: Literal["reference", "fused"]
    reason: str


def _constant(function: _F) -> _F:
    """Let torch.compile treat the function's result as a constant.

    Like torch.compiler.assume_constant_result, but without importing torch._dynamo, which takes 2 s.
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


def resolve(
    operation: str, impl: Impl, device: torch.device | None = None, *, obstacle: str | None = None
) -> Implementation:
    """Return the implementation of one call.

    Args:
        device: device of the operation's tensors; defaults to torch's default device.
        obstacle: reason why this call has no fused implementation.

    Raises:
        ValueError: ``fused`` cannot run here, or an unknown word; there is no silent fallback.

    Examples:
        >>> resolve("log_odds", "auto", torch.device("cpu")).name
        'reference'
    """
    device = torch.get_default_device() if device is None else device
    if impl == "reference":
        return Implementation(name="reference", reason="asked for")
    if impl == "fused":
        obstacle = _obstacle(operation, device.type) or obstacle
        if obstacle is not None:
            raise ValueError(f"impl='fused' cannot run {operation}: {obstacle}; use impl='reference'")
        return Implementation(name="fused", reason="asked for")
    if impl != "auto":
        raise ValueError(f"impl must be 'auto', 'reference' or 'fused', got {impl!r}")
    return Implementation(name="reference", reason="auto takes the reference outside a run, which judges both first")


def find_obstacle(operation: str, device_type: str) -> str | None:
    """Return why an operation cannot run fused on a kind of device, or None.

    Examples:
        >>> find_obstacle("softmax", "cuda")
        'it has no fused implementation'
    """
    return _obstacle(operation, device_type)


@_constant
def _obstacle(operation: str, device_type: str) -> str | None:
    if operation not in FUSED:
        return "it has no fused implementation"
    try:
        import triton
    except ImportError:
        return "Triton is not installed"
    if not triton.knobs.runtime.interpret:  # pyright: ignore[reportAttributeAccessIssue]
        return None if device_type == "cuda" else f"its tensors are on {device_type!r}, not on a CUDA GPU"
    import numpy as np

    if _numbers(triton.__version__) < (3, 7) and _numbers(np.__version__) >= (2, 4):
        return (
            f"the interpreter of Triton {triton.__version__} fails with NumPy {np.__version__}: install Triton 3.7 or "
            "newer, or NumPy below 2.4"
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
