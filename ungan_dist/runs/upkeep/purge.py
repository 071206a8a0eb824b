"""Remove the forget data from a run; keep the aggregates and a record of the purge.

In the run folder everything goes that is not listed in ``_KEPT``. Beside it go the files of ``shared_files``.
Deleting a file does not wipe a disk, a snapshot or a backup, see SECURITY.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.files import hash_file
from ungan_dist.report.redact import redact_page
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, describe_missing_run, read_purge, read_run
from ungan_dist.runs.upkeep.shared_files import find_neighbours, find_shared_files, list_files

_KEPT = re.compile(
    r"(config|table|timings|report|status|purged|purging)\.json|table\.md|report\.html|\.lock"
    r"|figures/[^/]+\.svg|results/[^/]+/[^/]+\.json|models/[^/]+/(?!original\.)[^/]+\.safetensors"
)


@dataclass(frozen=True, kw_only=True)
class Purge:
    """Effects of a purge; names are relative to the output folder."""

    folder: Path
    removed: list[str]
    in_use: dict[str, list[str]]
    """Shared files that stay → the other runs that use them."""
    affected: list[str]
    """Other runs that lose shared files."""
    doubts: list[str]
    """Sentences about what may hold forget data and could not be checked."""
    notes: list[str]
    """Sentences about what the purge did not touch."""

    @property
    def remaining(self) -> list[str]:
        return sorted(self.in_use)

    @property
    def complete(self) -> bool:
        """Whether no forget data remain, as far as could be checked."""
        return not self.in_use and not self.doubts


def plan_purge(folder: Path, *, shared: bool = False, models: bool = False) -> Purge:
    """Compute the effects of a purge; change nothing.

    Args:
        folder: The run folder.
        shared: Remove prepared data and shadow models' log-odds even if other runs use them.
        models: Remove the unlearned models too.

    Raises:
        ConfigError: not a run folder.
    """
    folder = folder.resolve()
    record = read_run(folder)
    found = find_shared_files(folder, record)
    in_use = {} if shared else {file: sorted(users) for file, users in found.users.items() if users}
    removed = {f"{folder.name}/{path}" for path in list_files(folder) if not _is_kept(path, models)}
    removed |= {*found.users, *_interrupted(folder)} - set(in_use)
    affected = sorted({user for file, users in found.users.items() if file not in in_use for user in users})
    notes = []
    if others := sorted({*affected, *(user for users in in_use.values() for user in users)}):
        notes.append(
            f"the folders of other runs on the same pictures were not touched: {', '.join(others)}. Their models were "
            f"trained on the forget data: purge each of these runs too"
        )
    paths = {"source": record.config.source.path, **dataclasses.asdict(record.config.given)}
    notes += [f"your own file or folder was not touched: {name} {path}" for name, path in paths.items() if path]
    return Purge(
        folder=folder,
        removed=sorted(removed),
        in_use=in_use,
        affected=affected,
        doubts=found.doubts,
        notes=notes,
    )


def purge(folder: Path, *, shared: bool = False, models: bool = False) -> Purge:
    """Purge a run, or finish an interrupted purge. Until it is finished, the run can neither continue nor report.

    Raises:
        ConfigError: not a run folder, or a process works on it or on a run whose shared files would be removed.
    """
    with contextlib.ExitStack() as stack:
        _lock(stack, folder)
        done = plan_purge(folder, shared=shared, models=models)
        folder, output = done.folder, done.folder.parent
        for name in done.affected:
            _lock(stack, output / name)
        store.write_record(folder / PURGING_FILE, {"removed": done.removed})
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        _clean_report(done, now)
        for marker in folder.glob("results/*/*.json"):  # so that an unlearned model can still be loaded
            _update(marker, lambda files: {name: hash for name, hash in files.items() if _is_kept(name, models)})
        for name in done.removed:
            _remove(output / name)
        is_busy = any(store.is_locked(other) for other in find_neighbours(folder))
        for place in (folder, output / "shadows", output / "data"):
            store.remove_temporary_files(place, include_live_pids=place == folder or not is_busy)
            for parent, _, _ in os.walk(place, topdown=False):
                with contextlib.suppress(OSError):
                    Path(parent).rmdir()
        before = read_purge(folder)
        store.write_record(
            folder / PURGED_FILE,
            {
                "purged": before.get("purged", now),
                "last": now,
                "removed": sorted({*before.get("removed", ()), *done.removed}),
                "remaining": done.remaining,
                "notes": [*done.doubts, *done.notes],
            },
        )
        (folder / PURGING_FILE).unlink()
    return done


def _interrupted(folder: Path) -> Iterator[str]:
    """List the files of an interrupted purge, which may have removed what identifies the remaining ones."""
    for name in read_purge(folder, PURGING_FILE).get("removed", ()):
        parts = PurePosixPath(name).parts
        if parts[:1] in ((folder.name,), ("data",), ("shadows",)) and ".." not in parts:
            yield name


def _update(marker: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Change the files that a marker lists; remove a damaged marker."""
    try:
        content = store.read_marker(marker)
    except store.CorruptResult:
        marker.unlink()
    else:
        store.write_record(marker, content | {"files": change(content["files"])})


def _lock(stack: contextlib.ExitStack, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigError(describe_missing_run(folder))
    try:
        stack.enter_context(store.run_lock(folder))
    except BlockingIOError as error:
        raise ConfigError(f"a process is at work on {folder}: end it before its data are purged") from error


def _is_kept(path: str, models: bool) -> bool:
    return bool(_KEPT.fullmatch(path)) and not (models and path.startswith("models/"))


def _clean_report(done: Purge, now: str) -> None:
    """Remove the pictures from the page and update its hash; remove a page that cannot be cleaned."""
    page, marker = done.folder / "report.html", done.folder / "report.json"
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
    if marker.is_file():
        _update(marker, lambda files: files | {"report.html": hash_file(page)})


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
