"""Check a run without its data and without torch: records, files, sizes, and the hashes of small files."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import normpath
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.config.identity import run_hash
from ungan_dist.errors import ConfigError
from ungan_dist.files import hash_file
from ungan_dist.runs.finished import FINISHED_FILE
from ungan_dist.runs.record import RunRecord
from ungan_dist.runs.status import RunState, current_state, read_status

SMALL_FILE = 1 << 20
"""Bytes up to which a file is hashed."""


def verify_quickly(record: RunRecord, folder: Path) -> tuple[RunState, list[str]]:
    """Check that every committed file of a run exists with its recorded size, and that its records are consistent.

    Args:
        record: The record of the run.
        folder: The run folder.

    Returns:
        The state, and a line for each file that is corrupt or each unit that is missing.

    Raises:
        ConfigError: The run is complete, but has no record of its files' sizes yet.
    """
    state = current_state(folder)
    if state in (RunState.PURGED, RunState.CORRUPT):
        return state, []
    corrupt = _find_corrupt(record, folder, complete=state is RunState.COMPLETE)
    if corrupt:
        return RunState.CORRUPT, [f"{path} {reason}" for path, reason in corrupt.items()]
    status = read_status(folder)
    return state, [] if status is None else status.missing


def _find_corrupt(record: RunRecord, folder: Path, *, complete: bool) -> dict[Path, str]:
    """Map each corrupt file to the reason."""
    corrupt: dict[Path, str] = {}
    if run_hash(record.config, record.data_hash, record.given_hash, record.architecture) != record.run_hash:
        corrupt[folder / "config.json"] = "has a hash that does not match its content"
    output = folder.parent
    sizes = _recorded_sizes(folder) if complete else {}
    for name, size in sizes.items():
        path = output / name
        if not path.is_file() or path.stat().st_size != size:
            corrupt[path] = "is missing or has another size"
    markers = [folder / "membership.json", folder / "report.json", *sorted(folder.glob("results/*/*.json"))]
    markers += [output / name for name in sizes if name.startswith("shadows/") and name.endswith(".json")]
    for marker in markers:
        if complete or marker.exists():
            for path, reason in _check_marker(output if marker.parent.name == "shadows" else folder, marker):
                corrupt.setdefault(path, reason)
    return corrupt


def _recorded_sizes(folder: Path) -> dict[str, int]:
    try:
        recorded: dict[str, Any] = store.read_json(folder / FINISHED_FILE)["results"]
        return {normpath(f"{folder.name}/{name}"): size for name, (size, _) in recorded.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} has no readable {FINISHED_FILE}, which lists its files: run ungan-dist report {folder} once, "
            f"or verify without --quick"
        ) from error


def _check_marker(root: Path, marker: Path) -> Iterator[tuple[Path, str]]:
    try:
        files: dict[str, str] = store.read_json(marker)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        yield marker, "is missing or damaged"
        return
    for name, expected in files.items():
        path = root / name
        if not path.is_file():
            yield path, "is missing"
        elif path.stat().st_size <= SMALL_FILE and hash_file(path) != expected:
            yield path, "was altered"
