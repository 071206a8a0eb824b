"""What of the forget data lies beside a run, shared with others: prepared data, and what shadow models left of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ungan_dist import store
from ungan_dist.config.identity import content_hash
from ungan_dist.errors import ConfigError
from ungan_dist.runs.plan import Plan, fleet_identity, in_smaller_blocks, make_plan
from ungan_dist.runs.record import PURGED_FILE, RunRecord, read_run
from ungan_dist.runs.upkeep.forget_copies import forget_pictures, holds

_NAME_LENGTH = 16
"""Digits of a data set's hash that name its folder."""


@dataclass(frozen=True, kw_only=True)
class SharedFiles:
    """Files beside a run that hold its forget data; names are relative to the output folder."""

    users: dict[str, set[str]] = field(default_factory=dict)
    """File → the other runs that use it, in the order in which files are to be removed."""
    doubts: list[str] = field(default_factory=list)
    """What may hold forget data too and could not be judged, in sentences."""


def shared_files(folder: Path, record: RunRecord) -> SharedFiles:
    """Finds them all: under the run's own data hash by name, under every other by the pictures themselves."""
    output = folder.parent
    plan, obstacle = _plan(record)
    found = SharedFiles()
    users = _other_runs(folder, record)
    own = record.data_hash[:_NAME_LENGTH]
    shadows = _shadow_files(output, plan)
    if plan is None and not all(_data_of(marker) for marker in output.glob("shadows/*.json")):
        found.doubts.append(
            f"the data cannot be read ({obstacle}), so this run's shadow models could not be told from others': "
            f"{output / 'shadows'} was left as it is. Delete it by hand once no run there needs it"
        )
    of_data = [*_below(output, f"data/{own}"), *sorted(_shadow_files_of_data(output, own) - set(shadows))]
    found.users.update(dict.fromkeys(of_data, users["data"]))
    for name, theirs in _copies(folder, record, plan, obstacle, found.doubts):
        found.users.setdefault(name, theirs)
    found.users.update(dict.fromkeys(shadows, users["shadows"]))
    return found


def _plan(record: RunRecord) -> tuple[Plan | None, str]:
    """The run's plan, which knows its forget set; or why there is none any more."""
    try:
        plan = make_plan(record.config, resolved=record.resolved)
    except ConfigError as error:
        return None, str(error)
    if plan.record.data_hash != record.data_hash:
        return None, "its source is not what it was"
    if plan.record.given_hash != record.given_hash:
        return None, "what was given to the run is not what it was"
    return plan, ""


def _copies(
    folder: Path, record: RunRecord, plan: Plan | None, obstacle: str, doubts: list[str]
) -> Iterator[tuple[str, set[str]]]:
    """Files of data under other hashes that hold forget pictures and of their shadow models, each with who uses it."""
    output, own = folder.parent, record.data_hash[:_NAME_LENGTH]
    there = {path.name for path in output.glob("data/*") if path.is_dir()} - {own}
    trained_on = {data[:_NAME_LENGTH] for data in map(_data_of, output.glob("shadows/*.json")) if data} - {own}
    wanted = None if plan is None else forget_pictures(plan)
    before = _found_before(folder)
    for name in sorted(there | trained_on):
        users = _users_of_data(folder, name)
        why = ""
        if name in before:
            held = True
        elif name not in there:
            held, why = None, "the data are not there any more"
        elif wanted is None:
            held, why = None, f"this run's forget pictures are not known any more: {obstacle}"
        else:
            try:
                held = holds(output / "data" / name, wanted)
            except ValueError as error:
                held, why = None, str(error)
        if held is None:
            what = "" if name in there else "shadow models trained on "
            used = f"used by {', '.join(sorted(users)) or 'no run'}"
            doubts.append(
                f"{what}{output}/data/{name} ({used}) could not be judged: {why}. It may hold pictures "
                f"that this run is to forget, or what was derived from them: delete it by hand once no run needs it"
            )
        elif held:
            files = [*_below(output, f"data/{name}"), *sorted(_shadow_files_of_data(output, name))]
            yield from ((file, users) for file in files)


def _found_before(folder: Path) -> set[str]:
    """Prepared data that an earlier purge of the run found forget pictures in and left; its source may be gone now."""
    if not (folder / PURGED_FILE).exists():
        return set()
    parts = [name.split("/") for name in store.read_json(folder / PURGED_FILE).get("remaining", ())]
    return {name[1] for name in parts if name[0] == "data" and (folder.parent / "/".join(name)).exists()}


def _shadow_files(output: Path, plan: Plan | None) -> list[str]:
    """Files of the run's shadow units; their ids need the data's split, and so the data."""
    if plan is None or not (output / "shadows").is_dir():
        return []
    whole = plan.shadows
    pairs = in_smaller_blocks(plan, {unit.id for unit in whole}).shadows
    names = {name for unit in (*whole, *pairs) for name in _files_of_shadows(output, unit.id)}
    names.update(_below(output, "shadows/trainer"))
    return sorted(name for name in names if (output / name).exists())


def _files_of_shadows(output: Path, id: str) -> Iterator[str]:
    """Marker and log-odds of a unit of shadow models, models where they were kept, states of an unfinished training."""
    yield from (f"shadows/{id}.json", f"shadows/{id}.npy")
    yield from _below(output, f"shadows/{id}")


def _data_of(marker: Path) -> str | None:
    """Hash of the data that a unit of shadow models was trained on; none where its marker does not say."""
    try:
        return str(store.read_json(marker)["facts"]["data"])
    except (ValueError, KeyError, TypeError):
        return None


def _shadow_files_of_data(output: Path, name: str) -> set[str]:
    """Files of all shadow models trained on some data, whichever run trained them, and whether it is still there."""
    names: set[str] = set()
    for marker in output.glob("shadows/*.json"):
        if (_data_of(marker) or "").startswith(name):
            names.update(_files_of_shadows(output, marker.stem))
    return {name for name in names if (output / name).exists()}


def _below(output: Path, place: str) -> list[str]:
    return [f"{place}/{path}" for path in sorted(files_below(output / place))]


def files_below(folder: Path) -> Iterator[str]:
    """Every file and link below a folder, relative to it; links are not followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(place) / name).relative_to(folder).as_posix()


def neighbours(folder: Path) -> Iterator[Path]:
    """The configs of the runs beside this one."""
    return (config for config in folder.parent.glob("*/config.json") if config.parent != folder)


def _unpurged(folder: Path) -> Iterator[tuple[str, RunRecord | None]]:
    """Names and records of the unpurged runs beside this one; what cannot be read may be using anything."""
    for config in neighbours(folder):
        if (config.parent / PURGED_FILE).exists():
            continue
        try:
            yield config.parent.name, read_run(config.parent)
        except ConfigError:
            yield config.parent.name, None


def _other_runs(folder: Path, record: RunRecord) -> dict[str, set[str]]:
    """Names of the unpurged runs beside this one that use the same data, and the same shadow models."""
    users: dict[str, set[str]] = {"data": _users_of_data(folder, record.data_hash), "shadows": set()}
    for name, theirs in _unpurged(folder):
        if theirs is None or _fleet(theirs) == _fleet(record):
            users["shadows"].add(name)
    return users


def _users_of_data(folder: Path, data: str) -> set[str]:
    return {name for name, theirs in _unpurged(folder) if theirs is None or theirs.data_hash.startswith(data)}


def _fleet(record: RunRecord) -> str:
    """Equal for all runs that share a shadow unit; the pool is left out, which can only make it equal too often."""
    return content_hash(fleet_identity(record))
