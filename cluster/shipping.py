"""Ship units to workers: each large array once to a node, and everything else with the unit.

All units of a run share its sets, which are most of a unit's bytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray import cloudpickle

from ungan_dist.cluster.parcels import Parcel

MIN_BYTES = 4096
"""Size from which an array is shipped by itself."""


class Packing:
    """Packs units; an array that several units share is put into Ray's object store once."""

    def __init__(self, put: Callable[[np.ndarray], Any] = ray.put) -> None:
        """Create a packing; ``put`` stores an array and returns a reference to it."""
        self._put = put
        self._stored: dict[int, tuple[np.ndarray, Any]] = {}
        """Identity of an array → the array, so that its identity stays taken, and its reference."""

    def pack(self, unit: Any) -> Parcel:
        """Pickle a unit."""
        stream, arrays = io.BytesIO(), list[np.ndarray]()
        _Pickler(stream, arrays).dump(unit)
        return Parcel(content=stream.getvalue(), arrays=tuple(self._refer(array) for array in arrays))

    def _refer(self, array: np.ndarray) -> Any:
        if id(array) not in self._stored:
            self._stored[id(array)] = array, self._put(array)
        return self._stored[id(array)][1]


class _Pickler(cloudpickle.CloudPickler):  # pyright: ignore[reportUntypedBaseClass, reportPrivateImportUsage]
    """Leaves out large arrays and lists them."""

    def __init__(self, stream: io.BytesIO, arrays: list[np.ndarray]) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._arrays = arrays

    def persistent_id(self, obj: Any) -> int | None:
        """Return the number of a large array, and None for everything else, which is pickled."""
        if type(obj) is not np.ndarray or obj.nbytes < MIN_BYTES or obj.dtype.hasobject:
            return None
        for number, array in enumerate(self._arrays):
            if array is obj:
                return number
        self._arrays.append(obj)
        return len(self._arrays) - 1
