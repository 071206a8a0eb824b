"""Verify a run: check its hashes and its membership matrix, and recompute its scores from the stored log-odds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ungan_dist import store
from ungan_dist.config.identity import run_hash
from ungan_dist.data.split import hash_array
from ungan_dist.errors import Unfinished
from ungan_dist.report import render
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.progress import silent
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, RunRecord, find_changes
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.status import RunState
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import root_of

_REPORT_FILES = ("table.json", "table.md", "timings.json", "report.html")
"""Files that the report's marker must list."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of a verification."""

    state: RunState
    """``COMPLETE``, ``PARTIAL``, ``CORRUPT`` or ``PURGED``."""
    corrupt: list[str]
    """Descriptions of what differs from what was committed."""
    missing: list[str]
    """Descriptions of what has not been computed yet."""


def verify(record: RunRecord, folder: Path) -> Verification:
    """Hash a run, its shadow models and its data again, check the membership matrix, and recompute the scores.

    Raises:
        ConfigError: the run's data cannot be read any more.
    """
    if (folder / PURGING_FILE).is_file():
        said = f"a purge of {folder} was interrupted: `ungan-dist purge {folder}` finishes it"
        return Verification(state=RunState.CORRUPT, corrupt=[said], missing=[])
    if (folder / PURGED_FILE).is_file():
        return Verification(state=RunState.PURGED, corrupt=[], missing=[])
    plan = make_plan(record.config, resolved=record.resolved)
    corrupt = [*_check_identity(record, plan), *_check_shared(plan)]
    missing: list[str] = []
    for unit in (*plan.targets, *plan.shadows):
        condition = store.condition(root_of(unit), unit.marker, id=unit.id)
        if condition == "absent":
            missing.append(unit.title)
        elif condition == "corrupt" or not _is_whole(unit):
            corrupt.append(f"{unit.title}: {root_of(unit) / unit.marker} or a file that it lists was altered")
    computed = not (missing or corrupt)
    if computed:
        own = [folder / name for name in ("membership.json", "report.json")]
        missing += [str(path) for path in own if not path.exists()]
    corrupt += _check_report(plan, complete=computed)
    state = RunState.CORRUPT if corrupt else RunState.PARTIAL if missing else RunState.COMPLETE
    return Verification(state=state, corrupt=corrupt, missing=missing)


def _is_whole(unit: TargetUnit | ShadowUnit) -> bool:
    """Return whether an intact marker lists all files of its unit."""
    marker = store.read_json(root_of(unit) / unit.marker)
    if isinstance(unit, ShadowUnit):
        return unit.log_odds_file in marker["files"]
    files = {unit.weights_file, unit.log_odds_file, unit.unseen_file}
    return files <= set(marker["files"]) and {"accuracy", "unlearning_seconds"} <= set(marker["facts"])


def _check_identity(record: RunRecord, plan: Plan) -> Iterator[str]:
    if found := find_changes(record, plan.record):
        yield from found
    elif run_hash(record.config, record.data_hash, record.given_hash, record.architecture) != record.run_hash:
        yield "config.json: its hash does not match its identity"


def _check_shared(plan: Plan) -> Iterator[str]:
    """Check the membership matrix and the prepared data."""
    content_hash = hash_array(plan.membership)
    if _is_altered(plan.folder, "membership.json", id=content_hash):
        yield f"{plan.folder / 'membership.npy'} differs from the matrix of the seed"
    half = plan.membership.shape[1] // 2
    if not ((plan.membership.sum(1) == half).all() and (2 * plan.membership.sum(0) == len(plan.membership)).all()):
        yield "the membership matrix is not balanced"
    prepared = plan.originals[0].prepared
    if _is_altered(Path(prepared.output), prepared.marker, id=prepared.data_hash):
        yield f"{Path(prepared.output) / prepared.images} or its labels were altered"
    if _is_altered(Path(prepared.output), prepared.beton.marker, id=prepared.beton.id):
        yield f"{prepared.beton.path} was altered: `ungan-dist prepare {plan.record.config.name} --rebuild` restores it"


def _is_altered(root: Path, marker: str, *, id: str) -> bool:
    """Return whether a marker exists and is not intact; its name belongs to this id alone."""
    return (root / marker).exists() and store.condition(root, marker, id=id) != "intact"


def _check_report(plan: Plan, *, complete: bool) -> Iterator[str]:
    """Check the report's files, and compare the table with a recomputed one."""
    path = plan.folder / "report.json"
    if not path.exists():
        return
    try:
        marker = store.read_json(path)
        id, named = str(marker["id"]), set(marker["files"])
    except (ValueError, KeyError, TypeError):
        id, named = "", set[str]()
    if not named >= set(_REPORT_FILES) or store.condition(plan.folder, "report.json", id=id) != "intact":
        yield f"{path}: a file of the report was altered; `ungan-dist report {plan.folder}` writes it again"
        return
    if not complete:
        return
    try:
        expected = render(build_report(plan, [], silent))
    except (Unfinished, ValueError) as error:
        yield f"the stored log-odds cannot be scored: {error}"
        return
    for name in ("table.json", "table.md"):
        if (plan.folder / name).read_bytes() != expected[name]:
            yield f"{plan.folder / name} differs from the table of the stored log-odds"
