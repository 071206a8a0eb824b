"""The only place where an implementation is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Impl = Literal["auto", "reference", "fused"]
"""What a caller may ask for."""


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """What a call runs, and why."""

    name: Literal["reference", "fused"]
    reason: str


def resolve(operation: str, impl: Impl) -> Implementation:
    """The implementation behind one call.

    Raises:
        ValueError: ``fused`` where an operation has no such implementation, or an unknown word; nothing falls back
            behind the caller's back.
    """
    if impl == "auto":
        return Implementation(name="reference", reason="no fused implementation is verified on this architecture")
    if impl == "reference":
        return Implementation(name="reference", reason="asked for")
    if impl == "fused":
        raise ValueError(f"no fused implementation of {operation} exists for impl='fused' yet; use impl='reference'")
    raise ValueError(f"impl must be 'auto', 'reference' or 'fused', got {impl!r}")
