"""Fetch the results of a plan from object storage: by summaries where they have them, and one by one otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ungan_dist.data.prepared import PreparedData
from ungan_dist.runs.failures import failure_marker
from ungan_dist.runs.plan import Plan, blocks_of, split_blocks
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.storage.mirror import Mirror, join_names
from ungan_dist.runs.storage.summaries import pull_summarised
from ungan_dist.runs.units import Unit
from ungan_dist.runs.unlearned_shadows import find_kept_weights, find_missing_weights

NUM_REQUESTS = 8
"""Concurrent requests: a request takes tens of milliseconds, and a run has hundreds of results."""


def place_of(unit: Unit) -> tuple[str, str]:
    """Return where a unit's result is: the folder below the output, and the marker's name in it."""
    return ("" if isinstance(unit, ShadowUnit) else Path(unit.run).name), unit.marker


def data_of(prepared: PreparedData) -> tuple[str, str]:
    """Return marker and id of the prepared data that the run's loader reads."""
    if prepared.loader == "ffcv":
        return prepared.beton.marker, prepared.beton.id
    return prepared.marker, prepared.data_hash


@dataclass(frozen=True, kw_only=True)
class Found:
    """Results of a plan in the storage."""

    intact: set[str]
    """Ids of units with an intact result."""
    damaged: list[str]
    """Descriptions for messages."""
    damaged_markers: list[tuple[str, str]]
    """Folder and marker of each damaged result."""
    without_summary: list[tuple[str, str]]
    """Folder and marker of each intact result that no summary has."""


def fetch(mirror: Mirror, plan: Plan, *, one_by_one: bool = False) -> tuple[Plan, Found]:
    """Fetch the results of a plan's units.

    Args:
        mirror: The storage.
        plan: The plan of the run.
        one_by_one: Read each file of each result, because a summary may be intact where a file is damaged.

    Returns:
        The plan, with shadow models in the blocks that the storage has, and what was found.

    Raises:
        Unfinished: The storage cannot be read.
    """
    fetching = _Fetching(mirror, plan.folder.name, one_by_one=one_by_one)
    wanted: dict[str, Unit] = {unit.id: unit for unit in (*plan.targets, *blocks_of(plan).candidates())}
    fetching.pull_all([*wanted.values()])
    plan = split_blocks(plan, ())
    weights = (*find_missing_weights(plan.unlearned_shadows), *find_kept_weights(plan.unlearned_shadows))
    fetching.pull_all([*{unit.marker: unit for unit in weights}.values()], are_counted=False)
    fetching.pull_all(plan.unlearned_shadows)
    return plan, fetching.found


class _Fetching:
    """What was found so far, and the listings of the storage."""

    def __init__(self, mirror: Mirror, name: str, *, one_by_one: bool) -> None:
        self.found = Found(intact=set(), damaged=[], damaged_markers=[], without_summary=[])
        self._mirror, self._name, self._one_by_one = mirror, name, one_by_one
        shadows = {f"shadows/{file}": size for file, size in mirror.sizes("shadows").items()}
        self._listings = {"": shadows, name: mirror.sizes(name)}

    def pull_all(self, units: Sequence[Unit], *, are_counted: bool = True) -> None:
        """Fetch the results of units, and their recorded failures."""
        places = {unit.id: place_of(unit) for unit in units}
        summarised: set[tuple[str, str]] = set()
        for place, listing in {} if self._one_by_one else self._listings.items():
            wanted = {marker: id for id, (folder, marker) in places.items() if folder == place and marker in listing}
            summarised |= {(place, marker) for marker in pull_summarised(self._mirror, place, listing, wanted)}

        def pull(unit: Unit) -> str:
            place, marker = places[unit.id]
            if (place, marker) in summarised:
                return "intact"
            if marker not in self._listings[place]:
                self._mirror.known[join_names(place, marker)] = None
                return "absent"
            return self._mirror.pull(place, marker, id=unit.id, sizes=self._listings[place])

        failures = self._listings[self._name]
        with ThreadPoolExecutor(NUM_REQUESTS) as pool:
            states = list(pool.map(pull, units))
        for unit, state in zip(units, states, strict=True):
            if (marker := failure_marker(unit)) in failures:
                self._mirror.pull(self._name, marker, id=unit.id, sizes=failures)
            if state == "intact" and places[unit.id] not in summarised:
                self.found.without_summary.append(places[unit.id])
            if are_counted:
                self._count(unit, places[unit.id], state)

    def _count(self, unit: Unit, place: tuple[str, str], state: str) -> None:
        if state == "intact":
            self.found.intact.add(unit.id)
        elif state == "damaged":
            where = join_names(*place)
            self.found.damaged.append(f"{unit.title}: {self._mirror.url}, {where} or one of its files is damaged")
            self.found.damaged_markers.append(place)
