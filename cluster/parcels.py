"""Restore the units that a driver ships, see ``shipping``. A worker imports this, which needs no NumPy."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A pickled unit without its large arrays."""

    content: bytes
    arrays: tuple[Any, ...]
    """References to its large arrays, in the order of their numbers in the content."""


class Unpacking:
    """Unpacks units in a worker, which keeps the arrays that it has received."""

    def __init__(self, get: Callable[[Sequence[Any]], list[np.ndarray]] = ray.get) -> None:
        """Create an unpacking; ``get`` returns the arrays of references."""
        self._get = get
        self._received: dict[Any, np.ndarray] = {}

    def unpack(self, parcel: Parcel) -> Any:
        """Restore a unit."""
        missing = [reference for reference in parcel.arrays if reference not in self._received]
        for reference, array in zip(missing, self._get(missing) if missing else (), strict=True):
            self._received[reference] = array
        arrays = [self._received[one].copy() for one in parcel.arrays]  # a unit may write to its own
        return _Unpickler(io.BytesIO(parcel.content), arrays).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, arrays: Sequence[np.ndarray]) -> None:
        super().__init__(stream)
        self._arrays = arrays

    def persistent_load(self, pid: int) -> np.ndarray:
        """Return the array of a number."""
        return self._arrays[pid]
