"""Open a run: draw its sets, lock its folder, store its record, data and membership matrix."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import appended
from ungan_dist.data.prepared import prepare
from ungan_dist.data.split import hash_array
from ungan_dist.errors import ConfigError, explain_file_errors
from ungan_dist.runs.finished import FINISHED_FILE, copy_finished, extent_of_report
from ungan_dist.runs.forecast.engines import settle_plan
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.record import CONFIG_FILE, read_plain_of, write_record
from ungan_dist.runs.rehearsal.process import rehearse
from ungan_dist.runs.status import STATUS_FILE, RunState, read_status, stop_others, write_status
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.remote import fetch_record, synchronised_run
from ungan_dist.runs.units import root_of
from ungan_dist.runs.views import (
    MEMBERSHIP_FILE,
    REPORT_FILE,
    REQUEST_FILE,
    Extent,
    find_place,
    place_view,
    read_own_extent,
    refuse_changed_methods,
    with_extent,
)


@contextlib.contextmanager
def open_run(
    config: AuditConfig,
    *,
    device: str | None = None,
    mirror: Mirror | None = None,
    rehearse: Callable[[Plan], tuple[str, ...]] = rehearse,
    settle: Callable[[Plan], Plan] = settle_plan,
) -> Iterator[Plan]:
    """Plan a run and hold its folder for this process, with record, data and membership in place.

    Args:
        config: The config of the run, with the methods, seeds and shadow models of the report.
        device: ``cpu`` or ``cuda``; defaults to what this machine has.
        mirror: Object storage to synchronise with; defaults to the folder alone.
        rehearse: Rehearses a plan with a user's model if results are missing; defaults to doing so on this machine.
        settle: Chooses the kernels and the engine of a new run; defaults to measuring on this machine.

    Raises:
        ConfigError: The config, the input or the user's model is wrong, or the folder belongs to another run or
            process.
    """
    plan = make_plan(config, device=device)
    if mirror is not None:
        fetch_record(mirror, plan.folder.name)
    refuse_changed_methods(config, plan.folder)
    plan = settle(plan)
    elsewhere = mirror is not None and (plan.folder / CONFIG_FILE).exists()  # its results are known when synchronised
    if not elsewhere:
        plan = _add_notes(plan, rehearse(plan))
    with explain_file_errors(plan.folder), store.run_lock(plan.folder):
        _refuse_folders(plan)
        store.remove_temporary_files(plan.folder)
        plan, kept = _claim_place(plan, mirror)
        stop_others(plan.folder, plan.place)
        for note in plan.warnings:
            warnings.warn(note, stacklevel=2)
        prepare(plan.source, plan.folder.parent, loader=plan.originals[0].prepared.loader)
        _store_membership(plan.report_folder, plan.membership)
        if mirror is None:
            yield plan
            return
        with synchronised_run(mirror, plan, kept=kept) as plan:
            if elsewhere:
                plan = _add_notes(plan, rehearse(plan))
                _write_record(plan)
            yield plan


def _add_notes(plan: Plan, notes: tuple[str, ...]) -> Plan:
    """Add to the report what a rehearsal found; if there was none, what an earlier one found."""
    present = None if notes else read_plain_of(plan.folder, plan.record.run_hash)
    earlier = present.get("model_notes", ()) if present else ()
    new = [note for note in dict.fromkeys((*notes, *earlier)) if note not in plan.record.model_notes]
    record = dataclasses.replace(plan.record, model_notes=(*plan.record.model_notes, *new))
    return dataclasses.replace(plan, record=record, notes=[*plan.notes, *new])


def _refuse_folders(plan: Plan) -> None:
    """Refuse a folder in place of a file, which no write could replace."""
    prepared = plan.originals[0].prepared
    names = [STATUS_FILE, FINISHED_FILE, REPORT_FILE, MEMBERSHIP_FILE, "membership.npy"]
    view = plan.folder / place_view(appended(plan.record.config))
    paths = [plan.folder / CONFIG_FILE, *(place / name for place in (plan.folder, view) for name in names)]
    paths += [Path(prepared.output) / name for name in (prepared.marker, prepared.images, prepared.labels)]
    paths += [root_of(unit) / name for unit in plan.units for name in (unit.marker, *unit.files)]
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder and must be a file: remove it and run again")


def _store_membership(folder: Path, membership: Bool[np.ndarray, "models pool"]) -> None:
    """Fix the membership matrix on disk before any training."""
    content_hash = hash_array(membership)
    files = {"membership.npy": store.array_bytes(membership)}
    if store.committed(folder, MEMBERSHIP_FILE, id=content_hash, files=files) is None:
        store.commit(folder, MEMBERSHIP_FILE, id=content_hash, files=files)


def _claim_place(plan: Plan, mirror: Mirror | None) -> tuple[Plan, str]:
    """Write the record of a run, and of a view its request.

    A larger request takes the place of the run's own report, which becomes a view.

    Returns:
        The plan with the place of its report, and the place of the earlier report, if it was moved.
    """
    record, folder, extent = plan.record, plan.folder, appended(plan.record.config)
    own, place = _write_record(plan), find_place(folder, record.run_hash, extent)
    if place:
        store.write_record(folder / place / REQUEST_FILE, extent)
        return dataclasses.replace(plan, place=place), ""
    if own == extent:
        return plan, ""
    if mirror is not None:
        mirror.pull(folder.name, REPORT_FILE)
    kept = _keep_report(plan, own)
    write_record(folder, record)
    return plan, kept


def _write_record(plan: Plan) -> Extent:
    """Write the record of a run, or check it, with the extent that the run has; return this extent."""
    own = read_own_extent(plan.folder, plan.record.run_hash) or appended(plan.record.config)
    write_record(plan.folder, with_extent(plan.record, own))
    return own


def _keep_report(plan: Plan, extent: Extent) -> str:
    """Copy the run's own report into a view, unless it is damaged, partial or of another extent."""
    folder, place = plan.folder, place_view(extent)
    try:
        report = store.read_marker(folder / REPORT_FILE)
        files = {name: (folder / name).read_bytes() for name in report["files"]}
        status, facts = RunState(report["facts"]["status"]), report["facts"] | {"extent": extent}
        is_intact = store.committed(folder, REPORT_FILE, id=report["id"]) is not None
    except (OSError, store.CorruptResult, KeyError, ValueError):
        return ""
    if status is RunState.PARTIAL or not is_intact or extent_of_report(folder) != extent:
        return ""
    before = read_status(folder)
    store.write_record(folder / place / REQUEST_FILE, extent)
    _store_membership(folder / place, plan.membership[: extent["shadows.num_models"]])
    store.commit(folder / place, REPORT_FILE, id=report["id"], files=files, facts=facts)
    write_status(folder / place, status, failed=before.failed if before else [])
    copy_finished(folder, place)
    return place
