"""Arrays as the caller has them: NumPy arrays, lists, and torch tensors of any device, without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class SupportsArray(Protocol):
    """A NumPy array, a torch tensor, or another object that NumPy can convert."""

    def __array__(self, *args: Any, **options: Any) -> np.ndarray: ...


Values = SupportsArray | Sequence[Any]
"""Numbers as the caller has them; lists may hold tensors."""


def to_numpy(name: str, values: Values) -> np.ndarray:
    """Return values as a NumPy array; a NumPy array, also a memory-mapped one, is not copied.

    bfloat16, which NumPy lacks, becomes float32. Both hold the same numbers.

    Args:
        name: Name of the argument, for messages.
        values: A NumPy array, a torch tensor or a nested list of numbers or tensors.

    Raises:
        ValueError: They are no numbers, or not all rows are of one length.

    Examples:
        >>> to_numpy("scores", [0.5, 1.0])
        array([0.5, 1. ])
    """
    try:
        array = np.asarray(_without_tensors(values))
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError is torch's
        raise ValueError(f"{name} cannot be read as an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got {describe(values)}")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(f"{name} has masked entries: leave them out, or fill them with values.filled(…)")
    return array


def describe(values: Values) -> str:
    """Describe values by type and shape, in the caller's terms.

    Examples:
        >>> describe(np.zeros((2, 3), dtype=bool)), describe([0.5, 1.0])
        ('bool of shape [2, 3]', 'a list of float64 of shape [2]')
    """
    if not hasattr(values, "dtype"):
        array = np.asarray(_without_tensors(values))
        return f"a {type(values).__name__} of {array.dtype} of shape {list(array.shape)}"
    found: Any = values
    return f"{found.dtype} of shape {list(found.shape)}"


def to_positions(name: str, values: Values, size: int) -> np.ndarray:
    """Return positions in 0 … size − 1, from positions or from a mask of that size.

    Raises:
        ValueError: They are no integers, or outside the range.

    Examples:
        >>> to_positions("leave_out", [True, False, True], 3)
        array([0, 2])
    """
    array = to_numpy(name, values)
    if array.dtype == np.bool_ and array.shape == (size,):
        return np.flatnonzero(array)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a list of integers or a mask of shape [{size}], got {describe(values)}")
    outside = array[(array < 0) | (array >= size)]
    if len(outside):
        raise ValueError(f"{name} must be in 0 … {size - 1}, got {outside.tolist()}")
    return array.astype(np.int64)


def _without_tensors(values: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        return values
    if isinstance(values, torch.Tensor):
        tensor = values.detach().cpu().resolve_neg()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if isinstance(values, Sequence) and any(isinstance(value, torch.Tensor | Sequence) for value in values[:1]):
        return [_without_tensors(value) for value in values]
    return values
