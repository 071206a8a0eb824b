"""Views of a run: reports on other methods, seeds or shadow models than the run's own, from the same results.

The methods, the number of seeds and the number of shadow models are the extent of a report. The run folder has the
report of the run's own extent, which grows with a request that contains it. Every other request is a view. Its report
is in ``reports/NAME`` of the run folder, with ``request.json``, which holds its extent, and its own membership matrix
and status. Models and log-odds are those of the run, so a view trains only what no other report has.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.config.audit import LATER_APPEND_ONLY_FIELDS, AuditConfig
from ungan_dist.config.identity import appended, content_hash, with_appended
from ungan_dist.config.own.source import read_sources
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import CONFIG_FILE, RunRecord, read_plain, read_plain_of, read_run, refuse_purged
from ungan_dist.urls import is_url, join_url, split_run

Extent = dict[str, Any]
"""The append-only fields: ``methods``, ``num_seeds``, ``shadows.num_models``, and those of ``_LATER_NUMBERS``."""

VIEWS = "reports"
"""Folder of all views, in the run folder."""
REQUEST_FILE = "request.json"
"""Extent of a view."""
REPORT_FILE = "report.json"
RECORDS_FILE = "records.parquet"
"""Results of single examples, written only by ``ungan-dist export --records``; a purge removes it."""
MEMBERSHIP_FILE = "membership.json"
_NAME = re.compile(r"\d+-shadows-\d+-seeds?-[0-9a-f]{8}")
_NUMBERS = ("num_seeds", "shadows.num_models")
_NAMES = ("methods", "attack.unlearned_shadows", "own_methods")
_LATER_NUMBERS = ("attack.unlearned_seeds", "num_unlearnings")


def contains(wider: Extent, narrower: Extent) -> bool:
    """Return whether an extent has all methods, seeds and shadow models of another.

    Examples:
        >>> small = {"methods": ["original"], "num_seeds": 1, "shadows.num_models": 8}
        >>> contains(small | {"num_seeds": 2}, small), contains(small, small | {"num_seeds": 2})
        (True, False)
    """
    return all(
        set(wider.get(name, ())) >= set(narrower.get(name, ()))
        if name in _NAMES
        else wider.get(name, 1) >= narrower.get(name, 1)
        for name in (*_NAMES, *_NUMBERS, *_LATER_NUMBERS)
    )


def name_view(extent: Extent) -> str:
    """Name a view by its numbers, and by a hash of its extent.

    Examples:
        >>> name_view({"methods": ["original", "retrain"], "num_seeds": 1, "shadows.num_models": 8})
        '8-shadows-1-seed-19f3a5a2'
    """
    num_models, num_seeds = extent["shadows.num_models"], extent["num_seeds"]
    plural = "" if num_seeds == 1 else "s"
    return f"{num_models}-shadows-{num_seeds}-seed{plural}-{content_hash(extent)[:8]}"


def place_view(extent: Extent) -> str:
    """Return the place of a view: its folder, relative to the run folder."""
    return f"{VIEWS}/{name_view(extent)}"


def find_place(folder: Path, run_hash: str, extent: Extent) -> str:
    """Return the place of a request's report; empty for the run folder itself.

    Args:
        folder: The run folder.
        run_hash: The hash of the run.
        extent: The request.

    Raises:
        DamagedRecord: The record in the run folder is damaged.
    """
    own = read_own_extent(folder, run_hash)
    if own is not None and "own_methods" in own:  # source that has no result may have changed
        sources = _sources(extent)
        own = own | {"own_methods": [f"{name}={sources.get(name, source)}" for name, source in _sources(own).items()]}
    if own is None or extent == own or (contains(extent, own) and not contains(own, extent)):
        return ""
    return place_view(extent)


def _sources(extent: Extent) -> dict[str, str]:
    return read_sources(extent.get("own_methods", ()))


def refuse_changed_methods(config: AuditConfig, folder: Path) -> None:
    """Refuse a method of the user's own whose results in a run were computed by other source.

    Raises:
        ConfigError: Such a result exists.
    """
    for method, source in read_sources(config.own_methods).items():
        for marker in sorted(folder.glob(f"results/*/{method}.json")):
            try:
                before = store.read_marker(marker)["facts"].get("source")
            except (OSError, store.CorruptResult):
                continue  # it is computed anew
            if before != source:
                raise ConfigError(
                    f"the source of {method}, or the version of its package, has changed since {marker} was computed. "
                    f"Restore it; or give the new function another name, which adds a row to this run; or start "
                    f"another run by --execution.run-name NAME, which uses the same shadow models"
                )


def read_own_extent(folder: Path, run_hash: str) -> Extent | None:
    """Return the extent of the run's own report, or ``None`` if the folder has no run of this hash."""
    present = read_plain_of(folder, run_hash)
    return None if present is None else present["appended"]


def with_extent(record: RunRecord, extent: Extent) -> RunRecord:
    """Return the record of the same run with another extent."""
    return dataclasses.replace(record, config=with_appended(record.config, extent))


def list_views(folder: Path) -> list[str]:
    """List the places of a run's views, also of damaged and interrupted ones."""
    return [f"{VIEWS}/{path.name}" for path in sorted(folder.glob(f"{VIEWS}/*")) if _NAME.fullmatch(path.name)]


def read_extent(folder: Path, place: str) -> Extent:
    """Read the extent of a run's report or of a view.

    Args:
        folder: The run folder.
        place: The place of the view; empty for the run's own report.

    Raises:
        ConfigError: There is no such view, or this is not a run folder.
        CorruptResult: The view's request is damaged.
    """
    if not place:
        return read_plain(folder)["appended"]
    path = folder / place / REQUEST_FILE
    try:
        extent = store.read_record(path)
        if name_view(extent) != Path(place).name:
            raise store.CorruptResult(f"{path} is of another report")
        _check_types(extent, path)
        return extent
    except (FileNotFoundError, NotADirectoryError) as error:
        if (folder / place).is_dir():
            raise store.CorruptResult(f"{path} is missing") from error
        others = ", ".join(list_views(folder)) or "none"
        raise ConfigError(f"{folder} has no report {place}; there are: {others}") from error
    except (KeyError, TypeError, OSError) as error:
        raise store.CorruptResult(f"{path} is damaged ({error!r})") from error


def _check_types(extent: Extent, path: Path) -> None:
    numbers = [extent[name] for name in _NUMBERS] + [extent[name] for name in _LATER_NUMBERS if name in extent]
    are_numbers = all(type(number) is int and number >= 0 for number in numbers) and numbers[0] > 0
    are_names = all(isinstance(extent.get(name, []), list) for name in _NAMES)
    if set(extent) - set(LATER_APPEND_ONLY_FIELDS) != {"methods", *_NUMBERS} or not are_names or not are_numbers:
        raise store.CorruptResult(f"{path} is no request for a report")


def _apply_view(record: RunRecord, folder: Path, place: str) -> RunRecord:
    extent = read_extent(folder, place)
    try:
        return with_extent(record, extent)
    except (ValueError, TypeError) as error:  # it was forged, or names a method of another version
        raise store.CorruptResult(f"{folder / place / REQUEST_FILE} cannot be read by this version: {error}") from error


def narrow(record: RunRecord, folder: Path, place: str) -> RunRecord:
    """Return the record of a run with the extent of one of its reports, see ``read_extent``."""
    return _apply_view(record, folder, place) if place else record


def widen(record: RunRecord, folder: Path) -> RunRecord:
    """Return the record of a run with all methods, seeds and shadow models that any of its readable reports has."""
    extent = appended(record.config)
    for place in list_views(folder):
        try:
            other = appended(_apply_view(record, folder, place).config)
        except (store.CorruptResult, ConfigError):
            continue
        for name in _NAMES:
            if found := list(dict.fromkeys([*extent.get(name, ()), *other.get(name, ())])):
                extent[name] = found
        extent |= {name: max(extent[name], other[name]) for name in _NUMBERS}
        later = {name: max(extent.get(name, 1), other.get(name, 1)) for name in _LATER_NUMBERS}
        extent |= {name: number for name, number in later.items() if number > 1}
    return with_extent(record, extent)


def read_place(path: Path) -> tuple[RunRecord, str]:
    """Read the record of the run at a run folder or ``RUN/reports/NAME``, and return it with the place of the report.

    Raises:
        ConfigError: this is not a run folder, or the run was purged.
    """
    folder, place = split_place(path)
    record = read_run(folder)
    refuse_purged(folder)
    return record, place


def split_place(path: Path) -> tuple[Path, str]:
    """Split the path of a run's report into the run folder and the place of a view in it, which may be empty."""
    there = path.absolute()
    for full in (path.resolve(), there.parent.resolve() / there.name):  # a view may be a link
        if full.parent.name == VIEWS and _NAME.fullmatch(full.name) and not (full / CONFIG_FILE).exists():
            return full.parents[1], f"{VIEWS}/{full.name}"
    return path, ""


def split_url(url: str) -> tuple[str, str]:
    """Split a URL as ``split_place`` splits a path."""
    parent, name = split_run(url) if is_url(url) else ("", "")
    if not _NAME.fullmatch(name) or not parent.partition("?")[0].endswith(f"/{VIEWS}"):
        return url, ""
    output, run = split_run(split_run(parent)[0])
    return join_url(output, run), f"{VIEWS}/{name}"


def describe_extent(extent: Extent) -> str:
    """Describe an extent in a few words.

    Examples:
        >>> describe_extent({"methods": ["original", "retrain"], "num_seeds": 1, "shadows.num_models": 8})
        '8 shadow models, 1 seed, 2 methods'
    """
    counts = {"shadow model": extent["shadows.num_models"], "seed": extent["num_seeds"]}
    if (num_unlearnings := extent.get("num_unlearnings", 1)) > 1:
        counts["unlearning"] = num_unlearnings
    counts["method"] = len(extent["methods"])
    words = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    unlearned = len(extent.get("attack.unlearned_shadows", ()))
    return ", ".join([*words, *([f"U-LiRA on {unlearned} of them"] if unlearned else [])])
