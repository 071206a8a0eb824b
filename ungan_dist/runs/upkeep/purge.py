"""Removes from a run what it holds of the people to be forgotten; the aggregates stay, and a record of the purge.

What stays is listed, not what goes: a file that nobody thought of is removed. Deleting a file does not wipe a disk,
a snapshot or a backup: SECURITY.md says more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.report.redact import redact_page
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, read_run
from ungan_dist.runs.upkeep.shared_files import files_below, neighbours, shared_files

_KEPT = re.compile(
    r"(config|table|timings|report|status|purged|purging)\.json|table\.md|report\.html|\.lock"
    r"|figures/[^/]+\.svg|results/[^/]+/[^/]+\.json|models/[^/]+/(?!original\.)[^/]+\.safetensors"
)
_MODEL = re.compile(r"models/.*")


@dataclass(frozen=True, kw_only=True)
class Purge:
    """What a purge removes and what it leaves; names are relative to the output folder."""

    folder: Path
    removed: list[str]
    in_use: dict[str, list[str]]
    """Shared files that were left → the other runs that use them."""
    affected: list[str]
    """Other runs that lose shared files."""
    doubts: list[str]
    """What may still hold forget data and could not be judged, in sentences."""
    notes: list[str]
    """What the purge did not touch, in sentences."""

    @property
    def remaining(self) -> list[str]:
        return sorted(self.in_use)

    @property
    def complete(self) -> bool:
        """Whether nothing was left, and nothing that could not be judged."""
        return not self.in_use and not self.doubts


def plan_purge(folder: Path, *, shared: bool = False, models: bool = False) -> Purge:
    """Finds out what a purge would do; changes nothing.

    Args:
        folder: the run folder.
        shared: remove the prepared data and the shadow models' log-odds even where other runs use them.
        models: remove the unlearned models too.

    Raises:
        ConfigError: not a run folder.
    """
    folder = folder.resolve()
    record = read_run(folder)
    own = [f"{folder.name}/{path}" for path in files_below(folder) if not _stays(path, models=models)]
    found = shared_files(folder, record)
    removed, in_use, affected = [], {}, set[str]()
    for file, users in found.users.items():
        if users and not shared:
            in_use[file] = sorted(users)
        else:
            removed.append(file)
            affected |= users
    notes: list[str] = []
    if affected or in_use:
        others = sorted(affected.union(*in_use.values()))
        notes.append(
            f"the folders of other runs on the same pictures were not touched: {', '.join(others)}. They hold models "
            f"that were trained on them and what was derived from them: purge each of these runs too"
        )
    if record.config.source.path:
        notes.append(f"the data's own source, {record.config.source.path}, is not this run's: it was not touched")
    for name, path in dataclasses.asdict(record.config.given).items():
        if path is not None:
            notes.append(f"what was given as {name}, {path}, is not this run's: it was not touched")
    return Purge(
        folder=folder,
        removed=own + removed,
        in_use=in_use,
        affected=sorted(affected),
        doubts=found.doubts,
        notes=notes,
    )


def purge(folder: Path, *, shared: bool = False, models: bool = False) -> Purge:
    """Removes it. A purge that was cut short is finished by the next; until then the run can neither go on nor report.

    Raises:
        ConfigError: not a run folder, or a driver is at work on it or on a run whose shared files would go.
    """
    with contextlib.ExitStack() as stack:
        _lock(stack, folder)
        done = plan_purge(folder, shared=shared, models=models)
        output = done.folder.parent
        for name in done.affected:
            _lock(stack, output / name)
        store.write_json(done.folder / PURGING_FILE, {"removed": done.removed})
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        _rewrite_report(done, now)
        _shorten_markers(done.folder, models=models)
        for name in done.removed:
            _remove(output / name)
        at_work = any(store.is_locked(other.parent) for other in neighbours(done.folder))
        for place in (done.folder, output / "shadows", output / "data"):
            store.remove_temporary_files(place, include_live_pids=place == done.folder or not at_work)
            _remove_empty(place)
        before = _record(done.folder)
        store.write_json(
            done.folder / PURGED_FILE,
            {
                "purged": before.get("purged", now),
                "last": now,
                "removed": sorted({*before.get("removed", ()), *done.removed}),
                "remaining": done.remaining,
                "notes": [*done.doubts, *done.notes],
            },
        )
        (done.folder / PURGING_FILE).unlink()
    return done


def _record(folder: Path) -> dict[str, Any]:
    return store.read_json(folder / PURGED_FILE) if (folder / PURGED_FILE).exists() else {}


def _lock(stack: contextlib.ExitStack, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no config.json")
    try:
        stack.enter_context(store.run_lock(folder))
    except BlockingIOError as error:
        raise ConfigError(f"a process is at work on {folder}: end it before its data are purged") from error


def _stays(path: str, *, models: bool) -> bool:
    return bool(_KEPT.fullmatch(path)) and not (models and _MODEL.fullmatch(path))


def _rewrite_report(done: Purge, now: str) -> None:
    """The page without pictures, and its marker with the new hash; a page that cannot be cleaned goes."""
    folder, page = done.folder, done.folder / "report.html"
    if not page.is_file():
        return
    notice = (
        f"On {now} the forget data, the pictures, the scores and log-odds of single examples and the original models "
        f"of this run were removed; the aggregates below are those of before."
    )
    try:
        cleaned = redact_page(page.read_text(), notice=notice, remaining=done.remaining)
    except ValueError:
        page.unlink()
        return
    store.write_file(page, cleaned.encode())
    marker = folder / "report.json"
    if marker.is_file():
        record = store.read_json(marker)
        record["files"]["report.html"] = store.file_hash(page)
        store.write_json(marker, record)


def _shorten_markers(folder: Path, *, models: bool) -> None:
    """A result's marker names what is left of it, so that an unlearned model can still be loaded and checked."""
    for path in folder.glob("results/*/*.json"):
        record = store.read_json(path)
        record["files"] = {name: digest for name, digest in record["files"].items() if _stays(name, models=models)}
        store.write_json(path, record)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(place).rmdir()
