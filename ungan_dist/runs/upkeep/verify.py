"""Verify a run: check its hashes and its membership matrix, and recompute its scores from the stored log-odds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ungan_dist import store
from ungan_dist.data.ffcv.file import is_beton_intact
from ungan_dist.data.prepared import is_prepared
from ungan_dist.data.split import hash_array
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.files import hash_bytes
from ungan_dist.report import render
from ungan_dist.report.table_json import EARLIER_VERSIONS, has_same_measurements
from ungan_dist.runs.failures import failure_marker, sort_out_absent
from ungan_dist.runs.finished import FINISHED_FILE
from ungan_dist.runs.looks import check_stopping
from ungan_dist.runs.plan import Plan, blocks_of, reopen_plan
from ungan_dist.runs.progress import silent
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, RunRecord, describe_cut_purge, find_changes
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.status import STATUS_FILE, RunState, read_status
from ungan_dist.runs.units import Unit, is_done, root_of
from ungan_dist.runs.unlearned_shadows import find_kept_weights
from ungan_dist.runs.upkeep.recompute import Recomputation
from ungan_dist.runs.views import MEMBERSHIP_FILE, REPORT_FILE, list_views

_REPORT_FILES = ("table.json", "table.md", "timings.json", "report.html")
"""Files that the report's marker must list."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of a verification."""

    state: RunState
    """``COMPLETE``, ``COMPLETE WITH FAILURES``, ``PARTIAL``, ``CORRUPT`` or ``PURGED``."""
    corrupt: list[str]
    """Descriptions of what differs from what was committed."""
    missing: list[str]
    """Descriptions of what has not been computed yet."""
    failed: list[str] = field(default_factory=list)
    """Descriptions of what failed and would fail again."""
    notes: list[str] = field(default_factory=list)
    """What was not checked, and what the check cannot show."""
    signed: list[str] = field(default_factory=list)
    """The verdicts of an attestation whose signature is good."""
    confirmed: str = ""
    """What was compared with an attestation and matches it."""


def verify(
    record: RunRecord, folder: Path, place: str = "", *, recomputation: Recomputation | None = None
) -> Verification:
    """Hash a run, its shadow models and its data again, check the membership matrices, and recompute the scores.

    Args:
        record: The record of the run.
        folder: The run folder.
        place: The place of a view, which is then checked alone; defaults to all reports of the run.
        recomputation: Also evaluates the stored models; defaults to their hashes alone.

    Raises:
        ConfigError: The run's data cannot be read any more, or its model cannot be made.
    """
    if os.path.lexists(folder / PURGING_FILE):
        return Verification(state=RunState.CORRUPT, corrupt=[describe_cut_purge(folder)], missing=[])
    if os.path.lexists(folder / PURGED_FILE):
        return Verification(state=RunState.PURGED, corrupt=[], missing=[])
    own = reopen_plan(record)
    plans, corrupt = _open_reports(own, place)
    if damaged := check_stopping(folder):
        return Verification(state=RunState.CORRUPT, corrupt=damaged, missing=[])
    corrupt += [*_check_identity(record, own), *_check_shared(own)]
    for report in plans:
        corrupt += [*_check_membership(report), *_check_records(report.report_folder)]
    plan = _join(own, plans)
    failures, waiting = sort_out_absent(plan.folder, plan.units)
    failed = [f"{failure.unit.title}: {failure.error}" for failure in failures]
    waiting_ids = {unit.id for unit in waiting}
    missing: list[str] = []
    for unit in (*plan.units, *find_kept_weights(plan.unlearned_shadows)):
        if _is_altered(folder, failure_marker(unit), id=unit.id):
            corrupt.append(f"{unit.title}: {folder / failure_marker(unit)} or its traceback was altered")
        if not os.path.lexists(root_of(unit) / unit.marker):
            missing += [unit.title] if unit.id in waiting_ids else []
            corrupt += _check_checkpoints(unit)
        elif not is_done(unit):
            corrupt.append(
                f"{unit.title}: {root_of(unit) / unit.marker} or a file that it lists was altered, or is of another "
                f"run, seed or method"
            )
    if missing:
        corrupt += _check_unused_blocks(plan)
    computed = not (missing or corrupt)
    if computed:
        markers = [each.report_folder / name for each in plans for name in (MEMBERSHIP_FILE, REPORT_FILE)]
        missing += [str(path) for path in markers if not os.path.lexists(path)]
        missing += _missing_data(plan)
    for report in plans:
        corrupt += _check_report(report, complete=computed)
    if recomputation is not None:
        corrupt += recomputation.check(plan)
    whole = RunState.WITH_FAILURES if failed else RunState.COMPLETE
    state = RunState.CORRUPT if corrupt else RunState.PARTIAL if missing else whole
    return Verification(state=state, corrupt=corrupt, missing=missing, failed=failed)


def _open_reports(own: Plan, place: str) -> tuple[list[Plan], list[str]]:
    """Return the plans of a run's reports, or of one view, and descriptions of damaged requests."""
    plans, damaged = [] if place else [own], list[str]()
    for view in [place] if place else list_views(own.folder):
        try:
            plans.append(reopen_plan(own.record, view, source=own.source))
        except (store.CorruptResult, ValueError) as error:
            if isinstance(error, ConfigError) and place:
                raise
            damaged.append(f"{error}: delete {own.folder / view}, and run the command of this report again")
    return plans, damaged


def _join(own: Plan, plans: list[Plan]) -> Plan:
    """Return the plan of a run with the units of all its reports, each once."""
    base = max(plans, key=lambda plan: len(plan.membership), default=own)

    def join(name: str) -> list[Unit]:
        return list({unit.id: unit for plan in plans for unit in getattr(plan, name)}.values())

    return replace(base, **{name: join(name) for name in ("originals", "unlearning", "shadows", "unlearned_shadows")})


def _check_identity(record: RunRecord, plan: Plan) -> Iterator[str]:
    yield from find_changes(record, plan.record)
    if (record.channels, record.num_classes) != (plan.record.channels, plan.record.num_classes):
        yield "config.json: its numbers of channels or classes are not those of the data"


def _missing_data(plan: Plan) -> list[str]:
    prepared = plan.originals[0].prepared
    markers = [Path(prepared.output) / marker for marker in (prepared.marker, prepared.beton.marker)]
    return [] if any(map(os.path.lexists, markers)) else [str(markers[0])]


def _check_records(folder: Path) -> Iterator[str]:
    """Check the records that a run is judged by without a look at its results."""
    if os.path.lexists(folder / STATUS_FILE) and read_status(folder) is None:
        yield f"{folder / STATUS_FILE} is damaged: the next `run` writes it again"
    if os.path.lexists(folder / FINISHED_FILE):
        try:
            record = store.read_record(folder / FINISHED_FILE)
            report = folder / REPORT_FILE
            if os.path.lexists(report) and record.get("report") != store.read_marker(report)["id"]:
                yield f"{folder / FINISHED_FILE} is not of this report; `ungan-dist report {folder}` writes it again"
        except (store.CorruptResult, OSError) as error:
            yield f"{error}; `ungan-dist report {folder}` writes it again"


def _check_checkpoints(unit: Unit) -> Iterator[str]:
    for name in unit.checkpoints:
        if _is_altered(root_of(unit), f"{name}.json", id=unit.id):
            yield f"{unit.title}: the checkpoint {root_of(unit) / name}.json was altered; the next `run` ignores it"


def _check_unused_blocks(plan: Plan) -> Iterator[str]:
    """Check committed shadow models that the plan does not use, because their files or markers were altered."""
    used = {unit.id for unit in plan.shadows}
    for unit in blocks_of(plan).candidates():
        if unit.id not in used and os.path.lexists(root_of(unit) / unit.marker) and not is_done(unit):
            yield f"{unit.title}: {root_of(unit) / unit.marker} or a file that it lists was altered"


def _check_membership(plan: Plan) -> Iterator[str]:
    """Check the membership matrix of a report."""
    folder = plan.report_folder
    content_hash = hash_array(plan.membership)
    files = {"membership.npy": hash_bytes(store.array_bytes(plan.membership))}
    if os.path.lexists(folder / MEMBERSHIP_FILE) and (
        store.committed(folder, MEMBERSHIP_FILE, id=content_hash) is None
        or store.read_marker(folder / MEMBERSHIP_FILE)["files"] != files
    ):
        yield f"{folder / 'membership.npy'} differs from the matrix of the seed"
    half = plan.membership.shape[1] // 2
    if not ((plan.membership.sum(1) == half).all() and (2 * plan.membership.sum(0) == len(plan.membership)).all()):
        yield "the membership matrix is not balanced"


def _check_shared(plan: Plan) -> Iterator[str]:
    """Check the prepared data."""
    prepared = plan.originals[0].prepared
    manifest = Path(prepared.output) / prepared.marker
    if os.path.lexists(manifest) and not is_prepared(plan.source, prepared):
        yield f"{manifest} does not agree with the data, or {prepared.images} or its labels were altered"
    if os.path.lexists(prepared.beton.output / prepared.beton.marker) and not is_beton_intact(
        plan.source, prepared.beton
    ):
        yield f"{prepared.beton.path} was altered: `ungan-dist prepare {plan.record.config.name} --rebuild` restores it"


def _is_altered(root: Path, marker: str, *, id: str) -> bool:
    """Return whether a marker exists and is not intact; its name belongs to this id alone."""
    return os.path.lexists(root / marker) and store.committed(root, marker, id=id) is None


def _check_report(plan: Plan, *, complete: bool) -> Iterator[str]:
    """Check the report's files, and compare the table with a recomputed one."""
    path = plan.report_folder / REPORT_FILE
    if not os.path.lexists(path):
        return
    try:
        id = store.read_marker(path)["id"]
        is_intact = store.committed(path.parent, path.name, id=id, files=_REPORT_FILES) is not None
    except (store.CorruptResult, OSError):
        is_intact = False
    if not is_intact:
        yield f"{path}: a file of the report was altered; `ungan-dist report {path.parent}` writes it again"
        return
    if not complete:
        return
    try:
        report = build_report(plan, [], silent)
    except (Unfinished, ValueError) as error:
        yield f"the stored log-odds cannot be scored: {error}"
        return
    expected = render(report)
    stored = store.read_json(path.parent / "table.json")
    if stored.get("schema_version") in EARLIER_VERSIONS:
        # its intervals and verdicts follow earlier rules; `report` writes it by today's
        if not has_same_measurements(stored, json.loads(expected["table.json"])):
            yield f"{path.parent / 'table.json'} differs from the table of the stored log-odds"
        return
    for name in ("table.json", "table.md"):
        if (path.parent / name).read_bytes() != expected[name]:
            yield f"{path.parent / name} differs from the table of the stored log-odds"
