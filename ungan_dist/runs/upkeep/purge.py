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
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.files import hash_file
from ungan_dist.report.redact import NOTICE, redact_page
from ungan_dist.runs.record import PURGED_FILE, PURGING_FILE, RunRecord, describe_missing_run, read_purge, read_run
from ungan_dist.runs.status import clear_reasons
from ungan_dist.runs.upkeep.links import find_linked, locate
from ungan_dist.runs.upkeep.shared_files import NAME_LENGTH, find_neighbours, find_shared_files, list_files
from ungan_dist.runs.views import REPORT_FILE, VIEWS, list_views, widen

_KEPT = re.compile(
    r"(config|purged|purging|stopping)\.json|\.lock"
    r"|(reports/[^/]+/)?((table|timings|report|status|request|attestation)\.json|table\.md|report\.html"
    r"|figures/[^/]+\.(svg|png|pdf))"
    r"|results/[^/]+/[^/]+\.json|models/[^/]+/(?!original\.)[^/]+\.safetensors"
)
_AGGREGATE = re.compile(r"(reports/[^/]+/)?((table|timings|report)\.json|table\.md|report\.html|figures/.*)")
REWRITTEN = re.compile(r"(reports/[^/]+/)?report\.(html|json)|results/[^/]+/[^/]+\.json")
"""Names of the files that a purge changes, relative to the run folder: pages, and markers of reports and results."""
FACTS_OF_FEW = ("weights",)
"""Facts that stay in the marker of a result over fewer than ``FEW`` forget examples."""
FEW = 10
"""Aggregates over fewer forget examples than this describe single people, and are removed."""


def may_remove(name: str, *, few: bool) -> bool:
    """Return whether a purge removes a committed file, named relative to the run folder; models go on request.

    Examples:
        >>> [may_remove(name, few=False) for name in ("log_odds/0/ungan.npy", "models/0/ungan.safetensors")]
        [True, True]
        >>> may_remove("table.json", few=False), may_remove("table.json", few=True)
        (False, True)
    """
    is_aggregate = _AGGREGATE.fullmatch(name) is not None
    return not _KEPT.fullmatch(name) or name.startswith("models/") or (few and is_aggregate)


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
    few: bool = False
    """Whether the forget examples are so few that aggregates go too."""

    @property
    def remaining(self) -> list[str]:
        return sorted(self.in_use)

    @property
    def complete(self) -> bool:
        """Whether no forget data remain, as far as could be checked."""
        return not self.in_use and not self.doubts


def plan_purge(folder: Path, *, shared: bool = False, models: bool = False, unrelated: Collection[str] = ()) -> Purge:
    """Compute the effects of a purge; change nothing.

    Args:
        folder: The run folder.
        shared: Remove prepared data and shadow models' log-odds even if other runs use them.
        models: Remove the unlearned models too.
        unrelated: Names of data sets beside the run that hold no forget data, as the user states.

    Raises:
        ConfigError: not a run folder, or a name is no data set beside it.
    """
    folder = locate(folder)
    record = read_run(folder)
    few = _count_forgotten(folder, record) < FEW
    kept = _Kept(folder, models=models, few=few)
    found = find_shared_files(folder, widen(record, folder), unrelated=unrelated)
    in_use = {} if shared else {file: sorted(users) for file, users in found.users.items() if users}
    removed = {f"{folder.name}/{path}" for path in list_files(folder) if not kept.holds(path)}
    removed |= {f"{folder.name}/{path}" for path in list_files(folder) if not (folder / path).exists()}  # broken links
    removed |= {*found.users, *_interrupted(folder)} - set(in_use)
    pages = {str(Path(folder.name) / place / "report.html") for place in _list_places(folder)}
    linked = find_linked(folder, removed | pages)
    affected = sorted({user for file, users in found.users.items() if file not in in_use for user in users})
    notes = [*found.stated]
    if others := sorted({*affected, *(user for users in in_use.values() for user in users)}):
        notes.append(
            f"the folders of other runs on the same pictures were not touched: {', '.join(others)}. Their models were "
            f"trained on the forget data: purge each of these runs too"
        )
    paths = {"source": record.config.source.path, **dataclasses.asdict(record.config.given)}
    notes += [f"your own file or folder was not touched: {name} {path}" for name, path in paths.items() if path]
    return Purge(
        folder=folder,
        removed=sorted(removed - linked.symbolic),
        in_use=in_use,
        affected=affected,
        doubts=[*found.doubts, *linked.doubts, *_missing_data(folder, record)],
        notes=notes,
        few=few,
    )


def purge(folder: Path, *, shared: bool = False, models: bool = False, unrelated: Collection[str] = ()) -> Purge:
    """Purge a run, or finish an interrupted purge. Until it is finished, the run can neither continue nor report.

    Raises:
        ConfigError: not a run folder, or a process works on it or on a run whose shared files would be removed.
    """
    with contextlib.ExitStack() as stack:
        _lock(stack, folder)
        done = plan_purge(folder, shared=shared, models=models, unrelated=unrelated)
        folder, output = done.folder, done.folder.parent
        for name in done.affected:
            _lock(stack, output / name)
        store.write_record(folder / PURGING_FILE, {"removed": done.removed})
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for place in _list_places(folder):
            _clean_report(done, place, now)
        kept = _Kept(folder, models=models, few=done.few)
        for marker in folder.glob("results/*/*.json"):  # so that an unlearned model can still be loaded
            _update(
                marker,
                lambda files: {name: hash for name, hash in files.items() if kept.holds(name)},
                facts=FACTS_OF_FEW if done.few else None,
            )
        for place in _list_places(folder):
            clear_reasons(folder / place)
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


def _update(
    marker: Path, change: Callable[[dict[str, str]], dict[str, str]], *, facts: tuple[str, ...] | None = None
) -> None:
    """Change the files that a marker lists, and keep only some of its facts; remove a damaged marker."""
    try:
        content = store.read_marker(marker)
    except store.CorruptResult:
        marker.unlink()
    else:
        kept = {name: fact for name, fact in content["facts"].items() if facts is None or name in facts}
        store.write_record(marker, content | {"files": change(content["files"]), "facts": kept})


def _lock(stack: contextlib.ExitStack, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigError(describe_missing_run(folder))
    try:
        stack.enter_context(store.run_lock(folder))
    except BlockingIOError as error:
        raise ConfigError(f"a process is at work on {folder}: end it before its data are purged") from error


def _list_places(folder: Path) -> list[str]:
    """List the places of a run's reports, except behind links, which a purge does not follow."""
    views = [] if (folder / VIEWS).is_symlink() else list_views(folder)
    return ["", *(place for place in views if not (folder / place).is_symlink())]


class _Kept:
    """The files of a run that a purge keeps: known names, of which figures and models must be those of a marker."""

    def __init__(self, folder: Path, *, models: bool, few: bool) -> None:
        self._folder, self._models, self._few = folder, models, few
        self._hashes: dict[str, str] = {}
        self._places = _list_places(folder)
        markers = [(folder / place, folder / place / REPORT_FILE) for place in self._places]
        markers += [(folder, marker) for marker in folder.glob("results/*/*.json")]
        for root, marker in markers:
            with contextlib.suppress(store.CorruptResult, OSError):
                files = store.read_marker(marker)["files"]
                self._hashes |= {str((root / name).relative_to(folder)): hash for name, hash in files.items()}

    def holds(self, path: str) -> bool:
        """Return whether a file, named relative to the run folder, is kept."""
        is_removed = (self._models and path.startswith("models/")) or (self._few and _AGGREGATE.fullmatch(path))
        if is_removed or not _KEPT.fullmatch(path):
            return False
        if path.startswith(f"{VIEWS}/") and "/".join(path.split("/", 2)[:2]) not in self._places:
            return False  # a copy of a report, whose page still has its pictures
        if not (path.startswith("models/") or path.endswith((".svg", ".png", ".pdf"))):
            return True
        with contextlib.suppress(OSError):
            return hash_file(self._folder / path) == self._hashes.get(path)
        return False


def _count_forgotten(folder: Path, record: RunRecord) -> int:
    """Return the number of forget examples of a seed; 0 if it cannot be known."""
    if record.config.given.forget is None and not record.config.split.rule.is_class:
        return record.config.split.num_forget
    for place in _list_places(folder):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return int(store.read_json(folder / place / "table.json")["sizes"]["forget"])
    return 0


def _missing_data(folder: Path, record: RunRecord) -> list[str]:
    """Return a doubt if the run's prepared data are not beside it, and no purge removed them."""
    name = f"data/{record.data_hash[:NAME_LENGTH]}"
    purges = [read_purge(path.parent) for path in folder.parent.glob(f"*/{PURGED_FILE}")]
    known = any(str(file).startswith(f"{name}/") for purge in purges for file in purge.get("removed", ()))
    if known or (folder.parent / name).exists() or (folder / PURGED_FILE).exists():
        return []
    return [
        f"{folder.parent / name}, the pictures of this run, is not there, and no purge removed it: if the run or the "
        f"pictures were moved, delete the pictures where they are now"
    ]


def _clean_report(done: Purge, place: str, now: str) -> None:
    """Remove the pictures from a page and update its hash; remove a page that cannot be cleaned."""
    page, marker = done.folder / place / "report.html", done.folder / place / REPORT_FILE
    if done.few or page.is_symlink() or not page.is_file():
        return
    try:
        cleaned = redact_page(page.read_text(), notice=NOTICE.format(date=now), remaining=done.remaining)
    except ValueError:
        page.unlink()
        return
    store.write_file(page, cleaned.encode())
    if marker.is_file():
        _update(marker, lambda files: files | {"report.html": hash_file(page)})


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
