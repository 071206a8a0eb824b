"""A run whose output is object storage: what is fetched before it works, and what is pushed as it goes.

Every machine computes in a folder of its own. The driver believes that a unit is done once its result has come back
from the storage whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import socket
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ungan_dist import store
from ungan_dist.data.prepared import PreparedData
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs import units
from ungan_dist.runs.plan import Plan, in_smaller_blocks, make_plan
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, read_run
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.status import STATUS_FILE
from ungan_dist.runs.storage.mirror import Mirror, connect
from ungan_dist.runs.targets import TargetUnit, target_marker
from ungan_dist.runs.units import Done, Failed, RunUnits, Unit, is_done, root_of
from ungan_dist.urls import split_run

_CONFIG = "config.json"
_MEMBERSHIP = "membership.json"
_REPORT = "report.json"
NUM_REQUESTS = 8
"""Requests under way at a time: a store answers in tens of milliseconds, and a fleet has hundreds of results."""


def fetch_record(mirror: Mirror, name: str) -> bool:
    """Brings what a run was asked, and whether it was purged; whether there is such a run.

    Raises:
        Unfinished: the storage cannot be read.
    """
    for file in (PURGED_FILE, PURGING_FILE):
        mirror.pull_json(f"{name}/{file}")
    return mirror.pull_json(f"{name}/{_CONFIG}")


@contextlib.contextmanager
def synchronised_run(mirror: Mirror, plan: Plan) -> Iterator[Plan]:
    """Fetches what another machine has done, pushes what only this one has; at the end, the run's word and report.

    Raises:
        ConfigError: the storage cannot be written to; nothing was computed.
        Unfinished: the storage fails later.
    """
    try:
        mirror.push_file(f"{plan.folder.name}/{_CONFIG}")
    except Unfinished as error:
        raise ConfigError(f"{error} (nothing was computed)") from error
    plan, found = fetch(mirror, plan)
    for place, marker in found.damaged_markers:
        mirror.discard(place, marker)
    _push_all(mirror, plan, found.intact)
    try:
        yield plan
    except BaseException:
        with contextlib.suppress(Unfinished, store.CorruptResult, OSError):
            publish_status(mirror, plan)
        raise
    publish_status(mirror, plan)


def publish_status(mirror: Mirror, plan: Plan) -> None:
    """Pushes the report, if there is one, and the run's status."""
    name = plan.folder.name
    if (plan.folder / _REPORT).is_file():
        mirror.push(name, _REPORT)
    mirror.push_file(f"{name}/{STATUS_FILE}")


def push_results(mirror: Mirror, run_units: RunUnits) -> RunUnits:
    """Pushes each result as soon as it is there."""

    def run(todo: Sequence[Unit]) -> Iterator[Done | Failed]:
        for outcome in run_units(todo):
            if isinstance(outcome, Done):
                mirror.push(*place_of(outcome.unit))
            yield outcome

    return run


def place_of(unit: Unit) -> tuple[str, str]:
    """Where a unit's result lies: the place under the output, and the marker's name in it."""
    return ("" if isinstance(unit, ShadowUnit) else Path(unit.run).name), unit.marker


def data_of(prepared: PreparedData) -> tuple[str, str]:
    """Marker and id of the prepared data, as the run's loader reads them."""
    if prepared.loader == "ffcv":
        return prepared.beton.marker, prepared.beton.id
    return prepared.marker, prepared.data_hash


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the storage holds of a plan."""

    intact: Collection[str]
    """Ids of units."""
    damaged: list[str]
    """In words."""
    damaged_markers: list[tuple[str, str]]
    """Where those lie: place and marker."""


def fetch(mirror: Mirror, plan: Plan) -> tuple[Plan, Found]:
    """Brings the storage's results of a plan's units here.

    Returns:
        The plan, with blocks of shadow models cut as they were cut there; and what was found.
    """
    in_pairs = in_smaller_blocks(plan, {unit.id for unit in plan.shadows}).shadows
    wanted: dict[str, Unit] = {unit.id: unit for unit in (*plan.targets, *plan.shadows, *in_pairs)}
    name = plan.folder.name
    sizes = {"": {f"shadows/{file}": size for file, size in mirror.sizes("shadows").items()}, name: mirror.sizes(name)}

    def pull(unit: Unit) -> tuple[Unit, str]:
        place, marker = place_of(unit)
        there = marker in sizes[place]
        return unit, mirror.pull(place, marker, id=unit.id, sizes=sizes[place]) if there else "absent"

    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        states = list(pool.map(pull, wanted.values()))
    damaged = [
        f"{unit.title}: {mirror.url}, {'/'.join(filter(None, place_of(unit)))} or a file that it names is damaged"
        for unit, state in states
        if state == "damaged"
    ]
    found = Found(
        intact={unit.id for unit, state in states if state == "intact"},
        damaged=damaged,
        damaged_markers=[place_of(unit) for unit, state in states if state == "damaged"],
    )
    return in_smaller_blocks(plan, ()), found


def _push_all(mirror: Mirror, plan: Plan, there: Collection[str]) -> None:
    """Pushes the shared parts, and results that a driver which died had not pushed, or that are damaged there."""
    mirror.push(plan.folder.name, _MEMBERSHIP)
    mirror.push("", data_of(plan.originals[0].prepared)[0])
    for unit in (*plan.targets, *plan.shadows):
        if unit.id not in there and is_done(unit):
            mirror.push(*place_of(unit))


def fetch_run(url: str, *, folder: Path | None = None) -> tuple[Mirror, Path, list[str]]:
    """Brings a whole run here.

    Args:
        url: of the run.
        folder: where to; none: this machine's working folder.

    Returns:
        Its storage, its folder here, and what is damaged there, in words.

    Raises:
        ConfigError: not a run, or the storage cannot be used.
        Unfinished: the storage fails on the way.
    """
    output, name = split_run(url)
    mirror = connect(output, folder=folder)
    here = mirror.folder / name
    if not fetch_record(mirror, name):
        raise ConfigError(f"{url} is not a run: it has no readable {_CONFIG}")
    if (here / PURGED_FILE).exists():
        return mirror, here, []
    record = read_run(here)
    plan = make_plan(record.config, resolved=record.resolved)
    damaged = [
        f"{mirror.url}, {'/'.join(filter(None, (place, marker)))} or a file that it names is damaged"
        for place, marker in ((name, _MEMBERSHIP), (name, _REPORT), ("", data_of(plan.originals[0].prepared)[0]))
        if mirror.pull(place, marker) == "damaged"
    ]
    mirror.pull_json(f"{name}/{STATUS_FILE}")
    return mirror, here, damaged + fetch(mirror, plan)[1].damaged


@dataclass(frozen=True, kw_only=True)
class ExecuteThere:
    """Computes units on a machine that shares no folder with the driver; sent to workers, it holds no connection."""

    url: str
    cache: str | None
    execute: Callable[[Unit], Done | Failed] = units.execute

    def __call__(self, unit: Unit) -> Done | Failed:
        """Fetches what a unit needs, computes it in this machine's own folder, pushes its result."""
        try:
            mirror = _connected(self.url, self.cache)
            here = _moved(unit, mirror.folder)
            place, marker = place_of(here)
            state = "here" if is_done(here) else mirror.pull(place, marker, id=here.id)
            if state == "damaged":
                mirror.discard(place, marker)
            if state in ("absent", "damaged"):
                _need(mirror, "", *data_of(here.prepared))
                if isinstance(here, TargetUnit) and here.method != "original":
                    _need(mirror, place, target_marker(here.seed, "original"), here.original_id)
                outcome = self.execute(here)
                if outcome.kind == "storage_full":
                    # this machine's folder and not the run's: another worker may have room
                    where = f"{socket.gethostname()}: its working folder {mirror.folder} is full (--execution.cache)"
                    return Failed(unit=unit, error=f"{where}: {outcome.error}")
                if outcome.kind != "done":
                    return dataclasses.replace(outcome, unit=unit)
            mirror.push(place, marker)
        except Exception:  # the storage's failures too are the unit's result: another worker may have better luck
            return Failed(unit=unit, error=traceback.format_exc())
        return Done(unit=unit)


@dataclass(frozen=True, kw_only=True)
class ArrivedFrom:
    """Whether a unit's result can be had from the storage, whole; it is then here too."""

    mirror: Mirror

    def __call__(self, unit: Unit) -> bool:
        place, marker = place_of(unit)
        return self.mirror.pull(place, marker, id=unit.id) == "intact"


@functools.lru_cache(maxsize=1)
def _connected(url: str, cache: str | None) -> Mirror:
    return connect(url, cache=cache)


def _moved(unit: Unit, output: Path) -> Unit:
    """The unit in another output folder; its id knows of none."""
    prepared = dataclasses.replace(unit.prepared, output=str(output))
    if isinstance(unit, ShadowUnit):
        return dataclasses.replace(unit, prepared=prepared)
    return dataclasses.replace(unit, prepared=prepared, run=str(output / root_of(unit).name))


def _need(mirror: Mirror, place: str, marker: str, id: str) -> None:
    """Has a result here that was computed elsewhere."""
    if store.committed(mirror.folder / place, marker, id=id) is not None:
        return
    state = mirror.pull(place, marker, id=id)
    if state != "intact":
        raise store.CorruptResult(f"{mirror.url}, {'/'.join(filter(None, (place, marker)))} is {state}")
