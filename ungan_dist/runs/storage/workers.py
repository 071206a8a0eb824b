"""Compute units on machines that share no folder with the driver: each fetches its inputs and pushes its results."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ungan_dist import store
from ungan_dist.runs import units
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.storage.fetch import data_of, place_of
from ungan_dist.runs.storage.mirror import Mirror, connect, join_names
from ungan_dist.runs.storage.summaries import discard_damaged
from ungan_dist.runs.storage.training_state import KeptState, keeping_state
from ungan_dist.runs.targets import TargetUnit, target_marker
from ungan_dist.runs.units import Done, Failed, OnProgress, Unit, is_done, no_progress, root_of
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit, find_missing_weights
from ungan_dist.training.world import World


@dataclass(frozen=True, kw_only=True)
class ExecuteThere:
    """Computes units on a machine that shares no folder with the driver; sent to workers without a connection."""

    url: str
    cache: str | None
    execute: Callable[[Unit, OnProgress], Done | Failed] = units.execute

    def __call__(self, unit: Unit, on_progress: OnProgress = no_progress) -> Done | Failed:
        """Fetch the inputs of a unit, compute it in this machine's folder, and push its result."""
        try:
            mirror = _connect(self.url, self.cache)
            here = _move(unit, mirror.folder)
            place, _ = place_of(here)
            state = _look(mirror, here)
            if state in ("absent", "damaged"):
                _fetch_inputs(mirror, here)
            if state != "intact":
                with keeping_state(mirror, place, here) as training:
                    outcome = Done(unit=here) if state == "here" else self.execute(here, on_progress)
                    _push_outcome(mirror, training, outcome)
                if outcome.kind == "storage_full":
                    # only this machine's folder is full: another worker may have room
                    return Failed(unit=unit, error=_describe_full(mirror))
                if outcome.kind != "done":
                    return dataclasses.replace(outcome, unit=unit)
        except Exception as error:  # a failure of the storage is an outcome too: another worker may succeed
            return dataclasses.replace(units.failure_of(unit, error), kind="error")
        return Done(unit=unit)


@dataclass(frozen=True, kw_only=True)
class ExecuteTogetherThere:
    """Computes units by all processes of a world, whose machines share no folder; sent to them without a connection."""

    url: str
    cache: str | None

    def __call__(self, todo: Iterable[Unit], world: World) -> Iterator[Done | Failed]:
        """Compute units one after the other; rank 0 keeps the state of the training in the storage, and the results.

        An exception, also of the storage, ends its process; Ray Train then ends the others and starts all again.
        """
        mirror = _connect(self.url, self.cache)
        for unit in todo:
            try:
                outcome = _execute_together(mirror, _move(unit, mirror.folder), world)
            except OSError as error:
                if not _is_full(error):
                    raise
                raise OSError(error.errno, _describe_full(mirror)) from error
            if outcome.kind == "storage_full":
                outcome = dataclasses.replace(outcome, error=_describe_full(mirror))
            yield dataclasses.replace(outcome, unit=unit)


def _execute_together(mirror: Mirror, here: Unit, world: World) -> Done | Failed:
    place, _ = place_of(here)
    is_first = world.rank == 0
    state = world.broadcast(_look(mirror, here) if is_first else None)
    if state == "intact":
        return Done(unit=here)
    _fetch_inputs(mirror, here)
    with keeping_state(mirror, place, here) if is_first else contextlib.nullcontext(None) as training:
        (outcome,) = units.execute_together([here], world)
        if training is not None:
            _push_outcome(mirror, training, outcome)
    return outcome


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _describe_full(mirror: Mirror) -> str:
    """Name the machine and the folder, which are not those of the driver."""
    return f"no space left for the working folder {mirror.folder} of {socket.gethostname()} (--execution.cache)"


def find_full_folder(error: str) -> str | None:
    """Find the machine and its working folder in an error, which other text may surround; None if it names none."""
    found = re.search(r"the working folder .+ \(--execution\.cache\)", error)
    return found and found[0]


@dataclass(frozen=True, kw_only=True)
class ArrivedFrom:
    """Fetches a unit's result and returns whether it is intact."""

    mirror: Mirror

    def __call__(self, unit: Unit) -> bool:
        place, marker = place_of(unit)
        return self.mirror.pull(place, marker, id=unit.id) == "intact"


_DATA_HERE: set[tuple[Path, str, str]] = set()
"""Data that this process has hashed. It opens them once, so no unit hashes them again."""


@functools.lru_cache(maxsize=1)
def _connect(url: str, cache: str | None) -> Mirror:
    return connect(url, cache=cache)


def _move(unit: Unit, output: Path) -> Unit:
    """Move a unit to another output folder, which is no part of its id."""
    if isinstance(unit, UnlearnedShadowUnit):
        return unit.move(output)
    prepared = dataclasses.replace(unit.prepared, output=str(output))
    if isinstance(unit, ShadowUnit):
        return dataclasses.replace(unit, prepared=prepared)
    return dataclasses.replace(unit, prepared=prepared, run=str(output / root_of(unit).name))


def _look(mirror: Mirror, here: Unit) -> str:
    """Look for a unit's result: ``here`` on this machine, else ``intact`` once fetched, ``absent`` or ``damaged``.

    A damaged result is removed from the storage.
    """
    place, marker = place_of(here)
    mirror.known.pop(join_names(place, marker), None)
    state = "here" if is_done(here) else mirror.pull(place, marker, id=here.id)
    if state == "damaged":
        discard_damaged(mirror, place, marker)
    return state


def _push_outcome(mirror: Mirror, training: KeptState, outcome: Done | Failed) -> None:
    """Push a result, and give up the kept state of its training if no machine will continue that."""
    if outcome.kind == "done":
        mirror.push(*place_of(outcome.unit))
    training.is_over = outcome.kind == "done" or outcome.is_final


def _fetch_inputs(mirror: Mirror, here: Unit) -> None:
    """Fetch what a unit needs: the data, and for an unlearning the weights that it begins with.

    Raises:
        CorruptResult: An input is absent or damaged.
        Unfinished: The storage cannot be read.
    """
    place, _ = place_of(here)
    data = data_of(here.prepared)
    if (mirror.folder, *data) not in _DATA_HERE:
        _require(mirror, "", *data)
        _DATA_HERE.add((mirror.folder, *data))
    if isinstance(here, TargetUnit) and here.method != "original":
        _require(mirror, place, target_marker(here.seed, "original"), here.original_id)
    if isinstance(here, UnlearnedShadowUnit):
        _require(mirror, "", here.shadow.marker, here.shadow.id)
        for weights in find_missing_weights([here]):
            _require(mirror, "", weights.marker, weights.id)


def _require(mirror: Mirror, place: str, marker: str, id: str) -> None:
    """Fetch a result that was computed elsewhere, unless it is here."""
    if store.committed(mirror.folder / place, marker, id=id) is not None:
        return
    state = mirror.pull(place, marker, id=id)
    if state != "intact":
        raise store.CorruptResult(f"{mirror.url}, {'/'.join(filter(None, (place, marker)))} is {state}")
