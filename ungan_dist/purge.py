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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.identity import content_hash
from ungan_dist.plan import fleet_identity, in_smaller_blocks, make_plan
from ungan_dist.report.redact import without_forget_data
from ungan_dist.resident import Prepared
from ungan_dist.runs import PURGED_FILE, PURGING_FILE, RunRecord, read_run

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
    notes: list[str]
    """What the purge could not see or judge, in sentences."""

    @property
    def remaining(self) -> list[str]:
        return sorted(self.in_use)


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
    output, name = folder.parent, folder.name
    own = [f"{name}/{path}" for path in _files(folder) if not _stays(path, models=models)]
    users = _other_runs(folder, record)
    removed, in_use, affected = [], {}, set[str]()
    shadows, notes = _shadow_files(record)
    others = sorted(_shadow_files_of_data(output, record.data_hash) - set(shadows))
    for kind, files in (("data", [*_data_files(output, record), *others]), ("shadows", shadows)):
        for file in files:
            if users[kind] and not shared:
                in_use[file] = sorted(users[kind])
            else:
                removed.append(file)
                affected |= users[kind]
    if record.config.source.path:
        notes.append(f"the data's own source, {record.config.source.path}, is not this run's: it was not touched")
    for name, path in dataclasses.asdict(record.config.given).items():
        if path is not None:
            notes.append(f"what was given as {name}, {path}, is not this run's: it was not touched")
    return Purge(folder=folder, removed=own + removed, in_use=in_use, affected=sorted(affected), notes=notes)


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
        at_work = any(store.is_locked(other.parent) for other in _neighbours(done.folder))
        for place in (done.folder, output / "shadows", output / "data"):
            store.sweep(place, whoever=place == done.folder or not at_work)
            _remove_empty(place)
        before = _record(done.folder)
        store.write_json(
            done.folder / PURGED_FILE,
            {
                "purged": before.get("purged", now),
                "last": now,
                "removed": sorted({*before.get("removed", ()), *done.removed}),
                "remaining": done.remaining,
                "notes": done.notes,
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


def _files(folder: Path) -> Iterator[str]:
    """Every file and link below a folder, relative to it; links are not followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(place) / name).relative_to(folder).as_posix()


def _stays(path: str, *, models: bool) -> bool:
    return bool(_KEPT.fullmatch(path)) and not (models and _MODEL.fullmatch(path))


def _data_files(output: Path, record: RunRecord) -> list[str]:
    marker = Prepared(output=str(output), data_hash=record.data_hash).marker
    folder = (output / marker).parent
    return [(folder / path).relative_to(output).as_posix() for path in sorted(_files(folder))]


def _shadow_files(record: RunRecord) -> tuple[list[str], list[str]]:
    """Files of the run's shadow units; their ids need the data's split, and so the data."""
    output = Path(record.config.output)
    if not (output / "shadows").is_dir():
        return [], []
    try:
        plan = make_plan(record.config, resolved=record.resolved)
    except ConfigError as error:
        if all(_data_of(marker) for marker in (output / "shadows").glob("*.json")):
            return [], []  # their markers name the data
        note = (
            f"the data cannot be read ({error}), so this run's shadow models could not be told from others': "
            f"{output / 'shadows'} was left as it is. Delete it by hand once no run there needs it"
        )
        return [], [note]
    whole = plan.shadows
    pairs = in_smaller_blocks(plan, {unit.id for unit in whole}).shadows
    names = {name for unit in (*whole, *pairs) for name in _files_of_shadows(output, unit.id)}
    names |= {f"shadows/trainer/{name}" for name in _files(output / "shadows/trainer")}
    return sorted(name for name in names if (output / name).exists()), []


def _files_of_shadows(output: Path, id: str) -> Iterator[str]:
    """Marker and log-odds of a unit of shadow models, models where they were kept, states of an unfinished training."""
    yield from (f"shadows/{id}.json", f"shadows/{id}.npy")
    yield from (f"shadows/{id}/{name}" for name in _files(output / "shadows" / id))


def _data_of(marker: Path) -> str | None:
    """Hash of the data that a unit of shadow models was trained on; none where its marker does not say."""
    try:
        return store.read_json(marker)["facts"]["data"]
    except (ValueError, KeyError, TypeError):
        return None


def _shadow_files_of_data(output: Path, data_hash: str) -> set[str]:
    """Files of all shadow models trained on some data, whichever run trained them, and whether it is still there."""
    names: set[str] = set()
    for marker in output.glob("shadows/*.json"):
        if _data_of(marker) == data_hash:
            names.update(_files_of_shadows(output, marker.stem))
    return {name for name in names if (output / name).exists()}


def _other_runs(folder: Path, record: RunRecord) -> dict[str, set[str]]:
    """Names of the unpurged runs beside this one that use the same data, and the same shadow models."""
    users: dict[str, set[str]] = {"data": set(), "shadows": set()}
    for config in _neighbours(folder):
        other = config.parent
        if (other / PURGED_FILE).exists():
            continue
        try:
            theirs = read_run(other)
        except ConfigError:
            # what cannot be read may be using anything
            users["data"].add(other.name)
            users["shadows"].add(other.name)
            continue
        if theirs.data_hash == record.data_hash:
            users["data"].add(other.name)
        if _fleet(theirs) == _fleet(record):
            users["shadows"].add(other.name)
    return users


def _neighbours(folder: Path) -> Iterator[Path]:
    """The configs of the runs beside this one."""
    return (config for config in folder.parent.glob("*/config.json") if config.parent != folder)


def _fleet(record: RunRecord) -> str:
    """Equal for all runs that share a shadow unit; the pool is left out, which can only make it equal too often."""
    return content_hash(fleet_identity(record))


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
        cleaned = without_forget_data(page.read_text(), notice=notice, remaining=done.remaining)
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
