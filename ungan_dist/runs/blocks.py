"""Divide a run's shadow models into units: pairs, or blocks that train together with the engines that do so.

Pairs are the smallest balanced units, and scoring needs whole pairs. Results of the other engines do not depend on the
block that a model is in. Results of stacked models depend on it in their last bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from ungan_dist import store
from ungan_dist.config.identity import content_hash, plain
from ungan_dist.config.training import TOGETHER
from ungan_dist.data.membership import draw_members
from ungan_dist.data.prepared import PreparedData
from ungan_dist.data.split import Split, hash_array
from ungan_dist.runs.operations import fused_for_shadows, judged_devices, settings_of_shadows
from ungan_dist.runs.record import RunRecord
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.units import is_done

PAIR = 2
EARLIER_SIZES = (4, 8, 16)
"""Block sizes to look for in object storage. Earlier versions also committed blocks of the serial engine."""


def fleet_identity(record: RunRecord) -> dict[str, Any]:
    """Return what identifies shadow models across runs, except the pool."""
    config = record.config
    train = plain(config.train)
    # with statistics of the whole batch, the number of processes does not change a shadow model
    if config.train.sync_batch_norm or not config.shadows.data_parallel:
        del train["num_workers"], train["sync_batch_norm"]
    return {
        "results_version": record.results_version,
        "data": record.data_hash,
        "model": plain(config.model),
        "train": train,
        "queries": list(config.shadows.queries),
        "seed": config.shadows.seed,
        "resolved": settings_of_shadows(record),
    } | ({"architecture": record.architecture} if record.architecture else {})


class Blocks:
    """Make the units of one run's shadow models."""

    def __init__(
        self,
        record: RunRecord,
        prepared: PreparedData,
        split: Split,
        membership: Bool[np.ndarray, "models pool"],
        *,
        code: str | None,
    ) -> None:
        self._record, self._prepared, self._split, self._membership = record, prepared, split, membership
        self._code = code
        self._identity = fleet_identity(record) | {"pool": hash_array(split.pool)}
        self._num_models = record.config.shadows.num_models
        self._size = record.config.shadows.unit_size if record.resolved["engine"] in TOGETHER else PAIR

    def divide(self, *, too_large: Collection[str] = ()) -> list[ShadowUnit]:
        """Divide the shadow models into units; what is committed stays in its block, so that nothing is trained twice.

        An incomplete block is trained in pairs, also after more models complete it.

        Args:
            too_large: Ids of units to train in pairs.
        """
        committed = self._find_committed()
        units: list[ShadowUnit] = []
        first = 0
        while first < self._num_models:
            block = range(first, first + self._size)
            if first in committed:
                units.append(committed[first])
            elif first % self._size or block.stop > self._num_models or not committed.keys().isdisjoint(block):
                units.append(self.make_unit(first, PAIR))
            else:
                whole = self.make_unit(first, self._size)
                units += self._pairs(block) if whole.id in too_large else [whole]
            first = units[-1].shadows[-1] + 1
        return units

    def make_unit(self, first: int, size: int) -> ShadowUnit:
        """Make the unit of consecutive shadow models; those that the run does not use are counted as surplus."""
        shadows = tuple(range(first, first + size))
        config, resolved = self._record.config, self._record.resolved
        if shadows[-1] >= len(self._membership):
            rows = draw_members(shadows, len(self._split.pool), config.shadows.seed)
        else:
            rows = self._membership[first : first + size]
        members = hash_array(rows)
        return ShadowUnit(
            id=content_hash({**self._identity, "shadows": list(shadows), "membership": members})[:32],
            shadows=shadows,
            num_surplus=max(0, shadows[-1] + 1 - self._num_models),
            seed=config.shadows.seed,
            prepared=self._prepared,
            pool=self._split.pool,
            model=config.model,
            train=config.train,
            queries=config.shadows.queries,
            keep_models=config.execution.keep_shadow_models or bool(config.attack.unlearned_shadows),
            engine=str(resolved["engine"]),
            device=str(resolved["device"]),
            fused=fused_for_shadows(self._record),
            judged_on=judged_devices(self._record),
            code=self._code,
        )

    def candidates(self) -> Iterator[ShadowUnit]:
        """Yield every unit that may have been committed in object storage."""
        for size in sorted({PAIR, *EARLIER_SIZES, self._size, self._record.config.shadows.unit_size}):
            for first in range(0, self._num_models, size):
                yield self.make_unit(first, size)

    def _pairs(self, block: range) -> list[ShadowUnit]:
        return [self.make_unit(first, PAIR) for first in block[::PAIR]]

    def _find_committed(self) -> dict[int, ShadowUnit]:
        """Map first models to the largest committed unit that begins there, whichever run trained it."""
        found: dict[int, ShadowUnit] = {}
        known: dict[tuple[int, int], ShadowUnit] = {}
        for marker in Path(self._prepared.output).glob("shadows/*.json"):
            first, size = _extent(marker)
            if not size or first >= self._num_models:
                continue
            unit = known.get((first, size)) or known.setdefault((first, size), self.make_unit(first, size))
            larger = first not in found or len(found[first].shadows) < size
            if unit.id == marker.stem and larger and is_done(unit):
                found[first] = unit
        return found


def _extent(marker: Path) -> tuple[int, int]:
    """Return the first model and the number of models of a committed unit; 0 models if they are not consecutive."""
    try:
        shadows = store.read_json(marker)["facts"]["shadows"]
        first, size = int(shadows[0]), len(shadows)
        is_block = shadows == list(range(first, first + size)) and first >= 0 and not size % PAIR
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return 0, 0
    return first, size if is_block else 0
