"""Open a run: draw its sets, lock its folder, store its record, data and membership matrix."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.data.split import hash_array
from ungan_dist.errors import ConfigError, explain_file_errors
from ungan_dist.runs.finished import FINISHED_FILE
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.record import CONFIG_FILE, extend_config, read_notes, write_record
from ungan_dist.runs.rehearsal.process import rehearse
from ungan_dist.runs.status import STATUS_FILE
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.remote import fetch_record, synchronised_run
from ungan_dist.runs.units import root_of


@contextlib.contextmanager
def open_run(
    config: AuditConfig,
    *,
    device: str | None = None,
    mirror: Mirror | None = None,
    rehearse: Callable[[Plan], tuple[str, ...]] = rehearse,
) -> Iterator[Plan]:
    """Plan a run and hold its folder for this process, with record, data and membership in place.

    Args:
        config: The config of the run; what the run was asked before is added to it.
        device: ``cpu`` or ``cuda``; defaults to what this machine has.
        mirror: Object storage to synchronise with; defaults to the folder alone.
        rehearse: Rehearses a plan with a user's model if results are missing; defaults to doing so on this machine.

    Raises:
        ConfigError: The config, the input or the user's model is wrong, or the folder belongs to another run or
            process.
    """
    plan = make_plan(config, device=device)
    if mirror is not None:
        fetch_record(mirror, plan.folder.name)
    extended = extend_config(config, plan.folder, plan.record)
    plan = plan if extended == config else make_plan(extended, device=device)
    elsewhere = mirror is not None and (plan.folder / CONFIG_FILE).exists()  # its results are known when synchronised
    if not elsewhere:
        plan = _add_notes(plan, rehearse(plan))
    with explain_file_errors(plan.folder), store.run_lock(plan.folder):
        _refuse_folders(plan)
        store.remove_temporary_files(plan.folder)
        write_record(plan.folder, plan.record)
        for note in plan.warnings:
            warnings.warn(note, stacklevel=2)
        prepare(plan.source, plan.folder.parent, loader=plan.originals[0].prepared.loader)
        _store_membership(plan)
        if mirror is None:
            yield plan
            return
        with synchronised_run(mirror, plan) as plan:
            if elsewhere:
                plan = _add_notes(plan, rehearse(plan))
                write_record(plan.folder, plan.record)
            yield plan


def _add_notes(plan: Plan, notes: tuple[str, ...]) -> Plan:
    """Add to the report what a rehearsal found; if there was none, what an earlier one found."""
    earlier = () if notes else read_notes(plan.folder, plan.record)
    new = [note for note in dict.fromkeys((*notes, *earlier)) if note not in plan.record.model_notes]
    record = dataclasses.replace(plan.record, model_notes=(*plan.record.model_notes, *new))
    return dataclasses.replace(plan, record=record, notes=[*plan.notes, *new])


def _refuse_folders(plan: Plan) -> None:
    """Refuse a folder in place of a file, which no write could replace."""
    prepared = plan.originals[0].prepared
    names = [CONFIG_FILE, STATUS_FILE, FINISHED_FILE, "report.json", "membership.json", "membership.npy"]
    paths = [plan.folder / name for name in names]
    paths += [Path(prepared.output) / name for name in (prepared.marker, prepared.images, prepared.labels)]
    paths += [root_of(unit) / name for unit in (*plan.targets, *plan.shadows) for name in (unit.marker, *unit.files)]
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder and must be a file: remove it and run again")


def _store_membership(plan: Plan) -> None:
    """Fix the membership matrix on disk before any training."""
    content_hash = hash_array(plan.membership)
    files = {"membership.npy": store.array_bytes(plan.membership)}
    if store.committed(plan.folder, "membership.json", id=content_hash, files=files) is None:
        store.commit(plan.folder, "membership.json", id=content_hash, files=files)
