"""Units are shipped without the arrays that they share, and arrive whole."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sleeping_units import SleepingUnit
from small_audit import small_config

from ungan_dist.cluster.parcels import Unpacking
from ungan_dist.cluster.shipping import MIN_BYTES, Packing
from ungan_dist.runs.plan import make_plan


class Store:
    """An object store whose arrays are read-only, as those of Ray are."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.num_reads = 0

    def put(self, array: np.ndarray) -> int:
        self.arrays.append(array.copy())
        self.arrays[-1].flags.writeable = False
        return len(self.arrays) - 1

    def get(self, references: Sequence[int]) -> list[np.ndarray]:
        self.num_reads += len(references)
        return [self.arrays[one] for one in references]


def flatten(value: Any) -> Any:
    """Return nested plain data to compare, with arrays as their bytes."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if dataclasses.is_dataclass(value):
        return {field.name: flatten(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def test_units_of_a_run_share_their_sets(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    large = dataclasses.replace(config.split, train=700, shadow_pool=700)
    plan = make_plan(
        dataclasses.replace(config, split=large, shadows=dataclasses.replace(config.shadows, num_models=8))
    )
    store, units = Store(), plan.units
    packing, unpacking = Packing(store.put), Unpacking(store.get)
    parcels = [packing.pack(unit) for unit in units]
    assert plan.split.pool.nbytes > MIN_BYTES
    pools = [array for array in store.arrays if array.tobytes() == plan.split.pool.tobytes()]
    assert len(pools) == 1, "the pool of all units is stored once"
    for unit, parcel in zip(units, parcels, strict=True):
        assert len(pickle.dumps(parcel.content)) < len(pickle.dumps(unit)) / 2
        found = unpacking.unpack(pickle.loads(pickle.dumps(parcel)))
        assert type(found) is type(unit)
        assert flatten(found) == flatten(unit)
    assert store.num_reads == len(store.arrays)
    unpacking.unpack(parcels[0]).split.pool[:] = 0  # a unit may change its own copy
    assert flatten(unpacking.unpack(parcels[0])) == flatten(units[0])
    assert [packing.pack(unit) for unit in units] == parcels


def test_small_arrays_and_other_units_are_shipped_whole() -> None:
    store = Store()
    unit = SleepingUnit(id="a", seconds=1.0)
    odd = [np.array([unit, None], dtype=object), np.zeros(3), np.zeros((2, MIN_BYTES), order="F")[:, ::2], unit]
    parcel = Packing(store.put).pack(odd)
    assert len(store.arrays) == 1
    first, small, strided, last = Unpacking(store.get).unpack(parcel)
    assert (first[0], last) == (unit, unit)
    assert small.shape == (3,)
    assert strided.shape == odd[2].shape
    assert (strided == 0).all()
