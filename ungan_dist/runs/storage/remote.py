"""Run with object storage as output: fetch earlier results, and push each new result.

Every machine computes in its own folder. For the driver a unit is done once its result was fetched intact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ungan_dist import store
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.failures import failure_marker
from ungan_dist.runs.looks import STOPPING_FILE
from ungan_dist.runs.plan import Plan, reopen_plan
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, read_run
from ungan_dist.runs.status import STATUS_FILE
from ungan_dist.runs.storage.fetch import data_of, fetch, place_of
from ungan_dist.runs.storage.mirror import Mirror, connect
from ungan_dist.runs.storage.summaries import Summaries, discard_damaged
from ungan_dist.runs.units import (
    Done,
    Failed,
    RunUnits,
    Unit,
    Working,
    is_done,
)
from ungan_dist.runs.unlearned_shadows import find_kept_weights
from ungan_dist.runs.views import MEMBERSHIP_FILE, REPORT_FILE, REQUEST_FILE, VIEWS, list_views, widen
from ungan_dist.urls import split_run

_CONFIG = "config.json"


def fetch_record(mirror: Mirror, name: str) -> bool:
    """Fetch the record of a run and the marks of a purge, and return whether the run exists.

    Raises:
        Unfinished: The storage cannot be read.
    """
    for file in (PURGED_FILE, PURGING_FILE, STOPPING_FILE):
        mirror.pull_json(f"{name}/{file}")
    return mirror.pull_json(f"{name}/{_CONFIG}")


@contextlib.contextmanager
def synchronised_run(mirror: Mirror, plan: Plan, *, kept: str = "") -> Iterator[Plan]:
    """Fetch results of other machines, push results that only this one has, and at the end status and report.

    Args:
        mirror: The storage.
        plan: The plan of the run.
        kept: The place of an earlier report that became a view; empty if there is none.

    Raises:
        ConfigError: The storage cannot be written to; nothing was computed.
        Unfinished: The storage fails later.
    """
    try:
        mirror.push_file(f"{plan.folder.name}/{_CONFIG}")
    except Unfinished as error:
        raise ConfigError(f"{error} (nothing was computed)") from error
    mirror.known.clear()
    plan, found = fetch(mirror, plan)
    for place, marker in found.damaged_markers:
        discard_damaged(mirror, place, marker)
    summaries = Summaries(mirror)
    for place, marker in [*found.without_summary, *_push_all(mirror, plan, found.intact)]:
        summaries.add(place, marker)
    summaries.flush()
    if kept:
        push_report(mirror, plan.folder, kept)
    try:
        yield plan
    except BaseException:
        with contextlib.suppress(Unfinished, store.CorruptResult, OSError):
            publish_status(mirror, plan)
        raise
    publish_status(mirror, plan)


def publish_status(mirror: Mirror, plan: Plan) -> None:
    """Push the report, if there is one, and the run's status."""
    push_report(mirror, plan.folder, plan.place)


def push_report(mirror: Mirror, folder: Path, place: str) -> None:
    """Push what a report's folder has: the request of a view, the membership matrix, the report and the status."""
    here = str(Path(folder.name) / place)
    mirror.push_file(f"{folder.name}/{STOPPING_FILE}")
    mirror.push_file(f"{here}/{REQUEST_FILE}")
    for marker in (MEMBERSHIP_FILE, REPORT_FILE):
        if (folder / place / marker).is_file():
            mirror.push(here, marker)
    mirror.push_file(f"{here}/{STATUS_FILE}")


def push_results(mirror: Mirror, run_units: RunUnits) -> RunUnits:
    """Wrap an executor so that each result is pushed at once, and summarised in time."""

    def run(todo: Sequence[Unit]) -> Iterator[Done | Failed | Working]:
        summaries = Summaries(mirror)
        try:
            for outcome in run_units(todo):
                if isinstance(outcome, Done):
                    place, marker = place_of(outcome.unit)
                    mirror.push(place, marker)
                    summaries.add(place, marker)
                yield outcome
        except BaseException:
            with contextlib.suppress(Unfinished, store.CorruptResult, OSError):
                summaries.flush()
            raise
        summaries.flush()

    return run


def withdraw_failure(mirror: Mirror, folder: Path, unit: Unit) -> None:
    """Remove a unit's recorded failure from the storage, before another attempt."""
    mirror.discard(folder.name, failure_marker(unit))


def _push_all(mirror: Mirror, plan: Plan, there: Collection[str]) -> Iterator[tuple[str, str]]:
    """Push the shared files, and results that are absent or damaged in storage; yield the places of these."""
    here = str(Path(plan.folder.name) / plan.place)
    mirror.push_file(f"{here}/{REQUEST_FILE}")
    mirror.push(here, MEMBERSHIP_FILE)
    mirror.push("", data_of(plan.originals[0].prepared)[0])
    for unit in plan.units:
        if unit.id not in there and is_done(unit):
            mirror.push(*place_of(unit))
            yield place_of(unit)
    for unit in find_kept_weights(plan.unlearned_shadows):
        if is_done(unit):
            mirror.push(*place_of(unit))


def fetch_run(url: str, *, folder: Path | None = None, one_by_one: bool = False) -> tuple[Mirror, Path, list[str]]:
    """Fetch a whole run.

    Args:
        url: The URL of the run.
        folder: The destination; defaults to this machine's working folder.
        one_by_one: Read each file of each result, and no summary.

    Returns:
        The storage, the run folder here, and descriptions of damaged results.

    Raises:
        ConfigError: It is not a run, or the storage cannot be used.
        Unfinished: The storage fails.
    """
    output, name = split_run(url)
    mirror = connect(output, folder=folder)
    here = mirror.folder / name
    if not fetch_record(mirror, name):
        raise ConfigError(f"{url} is not a run: it has no readable {_CONFIG}")
    if (here / PURGED_FILE).exists():
        return mirror, here, []
    fetch_requests(mirror, name)
    plan = reopen_plan(widen(read_run(here), here))
    markers = [("", data_of(plan.originals[0].prepared)[0])]
    for place in ("", *list_views(here)):
        folder_name = str(Path(name) / place)
        markers += [(folder_name, MEMBERSHIP_FILE), (folder_name, REPORT_FILE)]
        mirror.pull_json(f"{folder_name}/{STATUS_FILE}")
    damaged = [
        f"{mirror.url}, {'/'.join(filter(None, (place, marker)))} or one of its files is damaged"
        for place, marker in markers
        if mirror.pull(place, marker) == "damaged"
    ]
    return mirror, here, damaged + fetch(mirror, plan, one_by_one=one_by_one)[1].damaged


def fetch_requests(mirror: Mirror, name: str) -> None:
    """Fetch the requests of a run's views.

    Raises:
        Unfinished: The storage fails.
    """
    for file in mirror.sizes(f"{name}/{VIEWS}"):
        if Path(file).match(f"*/{REQUEST_FILE}"):
            mirror.pull_json(f"{name}/{VIEWS}/{file}")
