"""Check a run without its data and without torch: records, files, sizes, and the hashes of small files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from os.path import normpath
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.files import hash_file
from ungan_dist.runs.finished import FINISHED_FILE
from ungan_dist.runs.looks import check_stopping
from ungan_dist.runs.record import PURGING_FILE, RunRecord, describe_cut_purge
from ungan_dist.runs.status import STATUS_FILE, RunState, current_state, read_status
from ungan_dist.runs.views import MEMBERSHIP_FILE, REPORT_FILE, list_views, read_extent, split_place

SMALL_FILE = 1 << 20
"""Bytes up to which a file is hashed."""
_WORST_FIRST = (
    *(RunState.CORRUPT, RunState.FAILED, RunState.REFUSED, RunState.RUNNING, RunState.PARTIAL),
    *(RunState.WITH_FAILURES, RunState.COMPLETE),
)
_MALFORMED = (store.CorruptResult, ValueError, KeyError, TypeError, AttributeError)
"""Errors of a record whose JSON or whose structure is damaged."""


def verify_quickly(record: RunRecord, folder: Path, place: str = "") -> tuple[RunState, list[str]]:
    """Check that every committed file of a run exists with its recorded size, and that its records are consistent.

    Args:
        record: The record of the run.
        folder: The run folder.
        place: The place of a view, which is then checked alone; defaults to all reports of the run.

    Returns:
        The state, which is the worst of several reports, and a line for each file that is corrupt, or each unit that is
        missing or, in a run that is complete otherwise, failed.

    Raises:
        ConfigError: The run is complete, but has no record of its files' sizes yet.
    """
    if current_state(folder) is RunState.PURGED:
        return RunState.PURGED, []
    if os.path.lexists(folder / PURGING_FILE):
        return RunState.CORRUPT, [describe_cut_purge(folder)]
    reports = [folder / view for view in ([place] if place else ["", *list_views(folder)])]
    states = {report: current_state(report) for report in reports}
    if damaged := check_stopping(folder):
        return RunState.CORRUPT, damaged
    corrupt: dict[Path, str] = {}
    for report, state in states.items():
        corrupt |= _find_corrupt(record, folder, report, complete=state is RunState.COMPLETE)
    if corrupt:
        return RunState.CORRUPT, [f"{path} {reason}" for path, reason in corrupt.items()]
    worst = min(states.values(), key=_WORST_FIRST.index)
    found = [status for report in reports if (status := read_status(report)) is not None]
    lines = [
        line for status in found for line in (status.failed if worst is RunState.WITH_FAILURES else status.missing)
    ]
    return worst, list(dict.fromkeys(lines))


def _find_corrupt(record: RunRecord, folder: Path, report: Path, *, complete: bool) -> dict[Path, str]:
    """Map each corrupt file to the reason.

    Args:
        record: The record of the run.
        folder: The run folder.
        report: The folder of a report.
        complete: Whether the report is complete.
    """
    corrupt: dict[Path, str] = {}
    if os.path.lexists(report / STATUS_FILE) and read_status(report) is None:
        corrupt[report / STATUS_FILE] = "is damaged"
    output = folder.parent
    try:
        read_extent(*split_place(report))
    except (store.CorruptResult, ConfigError) as error:
        return corrupt | {report: f"is no readable report: {error}"}
    try:
        sizes = _recorded_sizes(report) if complete else {}
    except ConfigError:
        raise
    except _MALFORMED:
        return corrupt | {report / FINISHED_FILE: "is damaged"}
    for name, size in sizes.items():
        path = output / name
        if not os.path.isfile(path) or path.stat().st_size != size:
            corrupt[path] = "is missing or has another size"
    own = [report / MEMBERSHIP_FILE, report / REPORT_FILE]
    kinds = ("results/*/*.json", "failures/*.json", "unlearned_shadows/*/*/*.json")
    results = [marker for kind in kinds for marker in sorted(folder.glob(kind))]
    shared = [output / name for name in sizes if name.startswith("shadows/") and name.endswith(".json")]
    manifest = output / "data" / record.data_hash[:16] / "manifest.json"
    shared += sorted(manifest.parent.glob("*.json"))
    for root, markers in ((report, own), (folder, results), (output, shared)):
        for marker in markers:
            if complete or marker.exists():
                for path, reason in _check_marker(root, marker, id=record.data_hash if marker == manifest else None):
                    corrupt.setdefault(path, reason)
    return corrupt


def _recorded_sizes(folder: Path) -> dict[str, Any]:
    try:
        recorded = store.read_record(folder / FINISHED_FILE)["results"]
    except OSError as error:
        raise ConfigError(
            f"{folder} has no readable {FINISHED_FILE}, which lists its files: run ungan-dist report {folder} once, "
            f"or verify without --quick"
        ) from error
    run = split_place(folder)[0].name
    return {normpath(f"{run}/{name}"): size for name, (size, _) in recorded.items()}


def _check_marker(root: Path, marker: Path, *, id: str | None) -> Iterator[tuple[Path, str]]:
    """Compare the files of a marker with their hashes, and the marker's id with the expected one."""
    try:
        content = store.read_marker(marker)
        files, is_damaged = content["files"], id not in (None, content["id"])
    except (OSError, store.CorruptResult):
        files, is_damaged = {}, True
    if is_damaged:
        yield marker, "is missing or damaged"
    for name, expected in files.items():
        path = root / name
        try:
            if path.stat().st_size <= SMALL_FILE and hash_file(path) != expected:
                yield path, "was altered"
        except (OSError, ValueError):
            yield path, "is missing"
