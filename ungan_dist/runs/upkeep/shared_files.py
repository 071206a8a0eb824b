"""Find the files beside a run that hold its forget data: prepared data, and the results of shadow models."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.runs.blocks import fleet_identity
from ungan_dist.runs.plan import Plan, blocks_of, reopen_plan
from ungan_dist.runs.record import PURGED_FILE, RunRecord, read_purge, read_run
from ungan_dist.runs.upkeep.forget_copies import ForgetPictures, collect_forget_pictures, holds_pictures

NAME_LENGTH = 16
"""Digits of a data set's hash in the name of its folder."""
_OURS = re.compile(
    r"data/[^/]+/(images\.npy|labels\.npy|manifest\.json|data\.beton|beton\.json)"
    r"|shadows/[^/.]+(\.json|\.npy|/.*)|.*/\.[^/]+\.tmp"
)
"""Names that this software gives to files beside the runs."""
_PUBLIC = {
    "digits": "digits",
    "digits_table": "digits",
    "cifar10": "CIFAR-10",
    "cifar20": "CIFAR-100",
    "cifar100": "CIFAR-100",
}
"""The people of each kind of source whose examples are known; a file of a user's own may hold any."""


@dataclass(frozen=True, kw_only=True)
class SharedFiles:
    """Files beside a run that hold its forget data; names are relative to the output folder."""

    users: dict[str, set[str]] = field(default_factory=dict)
    """File → the other runs that use it."""
    doubts: list[str] = field(default_factory=list)
    """Sentences about what may hold forget data and could not be checked."""
    stated: list[str] = field(default_factory=list)
    """Sentences about what could not be checked, and of which the user states that it holds no forget data."""


def find_shared_files(folder: Path, record: RunRecord, *, unrelated: Collection[str] = ()) -> SharedFiles:
    """Walk through all data sets beside a run, and collect those that hold its forget pictures, with their users.

    A data set consists of its prepared data and the files of all shadow models trained on it. The run's own data set
    holds forget pictures by definition, the others are searched. Shadow models of unknown data go with the last run.

    Args:
        folder: The run folder.
        record: The run's record.
        unrelated: Names of data sets that hold no forget data, as the user states. What is found counts more.

    Raises:
        ConfigError: One of the names is no data set beside the run.
    """
    output, own = folder.parent, record.data_hash[:NAME_LENGTH]
    plan, reason = _make_plan(record)
    wanted = None if plan is None else collect_forget_pictures(plan)
    runs, units, found = _unpurged_runs(folder), _shadow_units(output), SharedFiles()
    prepared = {path.name for path in output.glob("data/*") if path.is_dir()}
    if unknown := sorted(set(unrelated) - {*prepared, *units} - {own, ""}):
        raise ConfigError(
            f"--unrelated: there are no other data {', '.join(unknown)} in {output / 'data'}. A purge names the data "
            f"that it could not check"
        )
    for name in sorted({own, *prepared, *units}):
        users = {run for run, other in runs.items() if other is None or other.data_hash.startswith(name)}
        is_other = _are_other_people(record, [runs[run] for run in users])
        try:
            if name in ("", own) or _holds_forget_data(folder, name, wanted, reason, is_other=is_other):
                files = [*(list_files(output, f"data/{name}") if name else ()), *_files_of_units(output, units[name])]
                found.users.update(dict.fromkeys(files, users))
        except ValueError as error:
            what = "" if name in prepared else "shadow models trained on "
            doubt = f"{what}{output}/data/{name} (used by {', '.join(sorted(users)) or 'no run'}) could not be checked"
            if name in unrelated:
                found.stated.append(f"{doubt}. You stated that it holds no forget data (--unrelated)")
                continue
            found.doubts.append(
                f"{doubt}: {error}. It may hold forget data: delete it by hand when no run needs it, or add "
                f"--unrelated {name} if you know that its examples are of other people"
            )
    if plan is not None:  # only runs with the same training use this run's shadow models
        fleet = fleet_identity(record)
        users = {run for run, other in runs.items() if other is None or fleet_identity(other) == fleet}
        ids = [unit.id for unit in (*plan.shadows, *blocks_of(plan).candidates())]
        found.users.update(dict.fromkeys(_files_of_units(output, ids), users))
    beside = {name for place in ("data", "shadows") for name in list_files(output, place)} - set(found.users)
    linked = {
        name for name in beside if name.count("/") == 1 and (output / name).is_dir()
    }  # a data set on another disk
    if unknown := sorted(name for name in beside - linked if not _OURS.fullmatch(name)):
        found.doubts.append(
            f"{len(unknown)} files in {output / 'data'} and {output / 'shadows'} are not from this software and may "
            f"hold forget data: check them, and delete or move them by hand. The first is {output / unknown[0]}"
        )
    return found


def find_neighbours(folder: Path) -> list[Path]:
    """List the folders of the runs beside a run."""
    runs = [config.parent for config in folder.parent.glob("*/config.json")]
    return [run for run in runs if not run.samefile(folder)]


def _unpurged_runs(folder: Path) -> dict[str, RunRecord | None]:
    """Read the records of the unpurged runs beside a run; None if unreadable: it may use any file."""
    runs: dict[str, RunRecord | None] = {}
    for run in find_neighbours(folder):
        if not (run / PURGED_FILE).exists():
            try:
                runs[run.name] = read_run(run)
            except ConfigError:
                runs[run.name] = None
    return runs


def list_files(root: Path, place: str = ".") -> Iterator[str]:
    """List the files and links below a folder, relative to the root; links are not followed."""
    for parent, folders, files in os.walk(root / place):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(parent) / name).relative_to(root).as_posix()


def _make_plan(record: RunRecord) -> tuple[Plan | None, str]:
    """Make the run's plan, which has the forget set; or return the reason why this is impossible."""
    try:
        plan = reopen_plan(record)
    except ConfigError as error:
        return None, str(error)
    if (plan.record.data_hash, plan.record.given_hash) != (record.data_hash, record.given_hash):
        return None, "its source or its lists have changed"
    return plan, ""


def _are_other_people(record: RunRecord, users: list[RunRecord | None]) -> bool:
    """Return whether the runs that use some data certainly have other examples than this run."""
    own, *others = (None if run is None else _PUBLIC.get(run.config.source.kind) for run in (record, *users))
    return own is not None and bool(others) and None not in others and own not in others


def _holds_forget_data(folder: Path, name: str, wanted: ForgetPictures | None, reason: str, *, is_other: bool) -> bool:
    data = folder.parent / "data" / name
    if (folder / PURGED_FILE).exists():  # an earlier purge may have found the pictures while the source existed
        left = read_purge(folder).get("remaining", ())
        if any(file.startswith(f"data/{name}/") and (folder.parent / file).exists() for file in left):
            return True
    if not data.is_dir():
        raise ValueError("the data do not exist any more")
    if wanted is None:
        raise ValueError(f"this run's forget pictures are unknown ({reason})")
    return holds_pictures(data, wanted, is_other_source=is_other)


def _shadow_units(output: Path) -> defaultdict[str, list[str]]:
    """Group the ids of shadow units by the name of their data; "" without a marker that has it."""
    units: defaultdict[str, list[str]] = defaultdict(list)
    for id in sorted({path.name.split(".")[0] for path in output.glob("shadows/[!.]*")}):
        try:
            units[str(store.read_marker(output / f"shadows/{id}.json")["facts"]["data"])[:NAME_LENGTH]].append(id)
        except (OSError, store.CorruptResult, KeyError):
            units[""].append(id)
    return units


def _files_of_units(output: Path, ids: list[str]) -> Iterator[str]:
    """List the files of shadow units: markers, log-odds, models and training states."""
    for id in ids:
        yield from (name for name in (f"shadows/{id}.json", f"shadows/{id}.npy") if (output / name).exists())
        yield from list_files(output, f"shadows/{id}")
