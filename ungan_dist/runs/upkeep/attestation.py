"""A signed statement of what a run concludes and of which files it concludes it from, and its check."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.files import hash_file
from ungan_dist.runs.looks import STOPPING_FILE
from ungan_dist.runs.plan import Plan, reopen_plan
from ungan_dist.runs.record import CONFIG_FILE, PURGED_FILE, PURGING_FILE, RunRecord, describe_cut_purge, read_purge
from ungan_dist.runs.reporting import collect_versions
from ungan_dist.runs.status import RunState
from ungan_dist.runs.units import root_of
from ungan_dist.runs.unlearned_shadows import find_kept_weights
from ungan_dist.runs.upkeep.purge import FEW, may_remove
from ungan_dist.runs.upkeep.rest import hash_rest, predict_rest
from ungan_dist.runs.upkeep.signing import is_signature, read_public_key, sign
from ungan_dist.runs.upkeep.verify import Verification
from ungan_dist.runs.views import MEMBERSHIP_FILE, RECORDS_FILE, REPORT_FILE, REQUEST_FILE

ATTESTATION_FILE = "attestation.json"
SCHEMA = "ungan_dist/attestation"
SCHEMA_VERSION = 1
BESIDE = "../shadows/"
"""Beginning of the names of files beside the run folder; all other names are below it."""
_MOST_OTHERS = 20
"""Files without an attestation that are named; the others are counted."""
_KEYS = {
    **dict.fromkeys(("schema", "date", "run", "data", "report", "status", "public_key", "signature"), str),
    "schema_version": int,
    "verdicts": (dict, str),
    "versions": dict,
    "files": dict,
    "rest": dict,
}
_STATES = (RunState.COMPLETE, RunState.WITH_FAILURES)


def make_attestation(record: RunRecord, place: str, state: RunState, key: Path) -> dict[str, Any]:
    """State the verdicts of a verified run with the hashes of all files that they rest on, and sign the statement.

    It holds no path, no name that a user chose but those of methods, and no value of an example.

    Args:
        record: The record of the run.
        place: The place of the report.
        state: What ``verify`` found.
        key: File of the private key.

    Raises:
        ConfigError: The key cannot be used, or the run's data cannot be read.
    """
    plan = reopen_plan(record, place)
    if not (plan.report_folder / REPORT_FILE).is_file():
        raise ConfigError(
            f"{plan.report_folder} has no report to attest: ungan-dist report {plan.report_folder} writes it"
        )
    verdicts = read_verdicts(store.read_json(plan.report_folder / "table.json"))
    names = sorted(set(_list_files(plan)))
    rest = {name: predict_rest(plan.folder, name, few=isinstance(verdicts, str)) for name in names}
    content = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": record.run_hash,
        "data": record.data_hash,
        "report": place,
        "status": str(state),
        "verdicts": verdicts,
        "versions": collect_versions([*plan.targets, *plan.shadows, *plan.unlearned_shadows]),
        "files": {name: hash_file(plan.folder / name) for name in names},
        "rest": {name: found for name, found in rest.items() if found},
    }
    _, public_key = sign(b"", key)
    content["public_key"] = public_key
    signature, _ = sign(encode(content), key)
    return content | {"signature": signature}


def encode(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed: canonical JSON in UTF-8, without the signature.

    Keys are sorted, there are no blanks, and there are no fractions, so that every language gives the same bytes.

    Examples:
        >>> encode({"signature": "…", "b": 1, "a": {"d": "δ", "c": None}})
        b'{"a":{"c":null,"d":"\\xce\\xb4"},"b":1}'
    """
    signed = {name: value for name, value in content.items() if name != "signature"}
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_verdicts(table: Mapping[str, Any]) -> dict[str, str] | str:
    """Read the verdict of each row of ``table.json``; a sentence if they would be about single people."""
    if table["sizes"]["forget"] < FEW:
        return f"left out: fewer than {FEW} forget examples, so that a verdict is about single people"
    return {row["method"]: row["verdict"]["outcome"] for row in table["rows"]}


def _list_files(plan: Plan) -> Iterator[str]:
    """Name the files of a report, and those that its verdicts rest on, relative to the run folder."""
    yield CONFIG_FILE
    if (plan.folder / STOPPING_FILE).exists():
        yield STOPPING_FILE
    rendered = store.read_marker(plan.report_folder / REPORT_FILE)["files"]  # tables, times, page and figures
    more = (MEMBERSHIP_FILE, "membership.npy", RECORDS_FILE, *([REQUEST_FILE] if plan.place else []))
    for name in (REPORT_FILE, *rendered, *more):
        if (plan.report_folder / name).exists():
            yield os.path.relpath(plan.report_folder / name, plan.folder)
    for unit in (*plan.units, *find_kept_weights(plan.unlearned_shadows)):
        root = root_of(unit)
        if (root / unit.marker).exists():  # others failed, as table.json says
            for name in (unit.marker, *store.read_marker(root / unit.marker)["files"]):
                yield os.path.relpath(root / name, plan.folder)


def check_attestation(folder: Path, path: Path, *, key: Path | None = None) -> Verification:
    """Compare a run folder with an attestation; neither data nor shadow models need to be there.

    Args:
        folder: The run folder.
        path: File of the attestation.
        key: File of the public key that must have signed it; defaults to the key that the attestation names.

    Raises:
        ConfigError: The attestation or the key cannot be read, or ``cryptography`` is not installed.
    """
    public_key = None if key is None else read_public_key(key)
    try:
        content = _parse(path)
        _check_signature(content, path, public_key)
    except store.CorruptResult as error:
        return Verification(state=RunState.CORRUPT, corrupt=[str(error)], missing=[])
    verdicts = content["verdicts"]
    signed = [verdicts] if isinstance(verdicts, str) else [f"{method}: {said}" for method, said in verdicts.items()]
    if os.path.lexists(folder / PURGING_FILE):
        cut = [describe_cut_purge(folder)]
        return Verification(state=RunState.CORRUPT, corrupt=cut, missing=[], signed=signed)
    is_purged = os.path.lexists(folder / PURGED_FILE)
    found = _compare(folder, content, is_purged=is_purged)
    corrupt = [*found.corrupt, *_check_verdicts(folder, content)]
    signer = f"the key {content['public_key']}" if key is None else f"the key of {key} ({content['public_key']})"
    by_whom = f"signed on {content['date']} by {signer}"
    unpinned = "no --public-key was given, so the key is not pinned: this shows integrity, not the author"
    notes = [] if public_key else [unpinned]
    if is_purged:
        notes.append(
            f"the record of the purge, {PURGED_FILE}, is not signed: anybody could have written it. Trust the verdicts "
            f"printed here; of the page, the date of the purge and the list of remaining files are not attested"
        )
    if found.removed:
        notes.append(f"the purge removed {_name(found.removed)}: these files cannot be checked any more")
    if found.rewritten:
        notes.append(f"the purge rewrote {_name(found.rewritten)}: what it did not change is as attested")
    if found.absent:
        notes.append(
            f"{_name(found.absent)} of the shadow models are not here and were not checked: copy shadows/ beside the "
            f"run folder to check them too"
        )
    if others := sorted(_list_others(folder, content["files"], path)):
        more = f" and {len(others) - _MOST_OTHERS} more" if len(others) > _MOST_OTHERS else ""
        notes.append(f"the attestation does not cover {', '.join(others[:_MOST_OTHERS])}{more}")
    state = RunState.CORRUPT if corrupt else RunState.PURGED if is_purged else RunState(content["status"])
    if corrupt:
        notes.insert(0, f"{path} was {by_whom}")
        return Verification(state=state, corrupt=corrupt, missing=[], notes=notes, signed=signed)
    total = len(content["files"])
    matching = total - len(found.removed) - len(found.rewritten) - len(found.absent)
    confirmed = f"{matching} of {total} files match the attestation, {by_whom}"
    return Verification(state=state, corrupt=[], missing=[], notes=notes, signed=signed, confirmed=confirmed)


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the attestation {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise store.CorruptResult(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise store.CorruptResult(f"{path} is no attestation of a run")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ConfigError(f"{path} was made by a later version of this software: use that version")
    is_whole = set(content) == set(_KEYS) and all(isinstance(content[key], kind) for key, kind in _KEYS.items())
    if not is_whole or content["status"] not in _STATES:
        raise store.CorruptResult(f"{path} is damaged: it is not what attest wrote")
    if not {CONFIG_FILE, _table_of(content)} <= set(content["files"]):
        raise store.CorruptResult(f"{path} is damaged: it lacks the hash of {CONFIG_FILE} or {_table_of(content)}")
    for name, expected in content["files"].items():
        parts = Path(name.removeprefix(BESIDE)).parts
        if not isinstance(expected, str) or "\0" in name or ".." in parts or name.removeprefix(BESIDE).startswith("/"):
            raise store.CorruptResult(f"{path} is damaged: it names a file outside of a run, {name!r}")
    return content


def _table_of(content: dict[str, Any]) -> str:
    return str(Path(content["report"]) / "table.json")


def _check_signature(content: dict[str, Any], path: Path, public_key: str | None) -> None:
    if public_key is not None and content["public_key"] != public_key:
        raise store.CorruptResult(f"{path} was signed by another key, {content['public_key']}, not by {public_key}")
    if not is_signature(encode(content), content["signature"], content["public_key"]):
        raise store.CorruptResult(f"{path} was altered: its signature does not fit its content")


@dataclass(kw_only=True)
class _Comparison:
    """Names of attested files, by what was found; all others are as attested."""

    corrupt: list[str] = field(default_factory=list)
    """Sentences instead of names."""
    removed: list[str] = field(default_factory=list)
    """Removed by a purge."""
    rewritten: list[str] = field(default_factory=list)
    """Rewritten by a purge, and as attested otherwise."""
    absent: list[str] = field(default_factory=list)
    """Beside the run folder, and not there."""


def _compare(folder: Path, content: dict[str, Any], *, is_purged: bool) -> _Comparison:
    """Compare the attested files; the record of a purge excuses nothing that a real purge does not do."""
    found = _Comparison()
    files, rest, few = content["files"], content["rest"], isinstance(content["verdicts"], str)
    # its names begin with that of the folder, which may have another by now
    recorded = {name.partition("/")[2] for name in read_purge(folder).get("removed", ())} if is_purged else set()
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            is_page_removed = is_purged and name.endswith("report.html") and name not in rest
            if name.startswith(BESIDE):
                found.absent.append(name)
            elif (name in recorded and may_remove(name, few=few)) or is_page_removed:
                found.removed.append(name)
            else:
                found.corrupt.append(f"{path} is missing, and was attested on {content['date']}")
        elif hash_file(path) != expected:
            if is_purged and name in rest and hash_rest(folder, name, files) == rest[name]:
                found.rewritten.append(name)
            else:
                why = "; no purge changes it so" if is_purged else ""
                found.corrupt.append(f"{path} differs from the file that was attested on {content['date']}{why}")
    return found


def _list_others(folder: Path, attested: Collection[str], attestation: Path) -> Iterator[str]:
    """Name the files of a run folder that were not attested; a folder that holds no other files by its name alone."""
    parents = {str(parent) for name in attested for parent in Path(name).parents}
    for parent, folders, names in os.walk(folder):
        place = Path(parent).relative_to(folder)
        for name in names:
            is_other = str(place / name) not in attested
            if is_other and (folder / place / name).absolute() != attestation.resolve():
                yield str(place / name)
        for name in [name for name in folders if str(place / name) not in parents]:
            folders.remove(name)
            yield f"{place / name}/"


def _check_verdicts(folder: Path, content: dict[str, Any]) -> Iterator[str]:
    """Compare the attested verdicts with those of the attested table; ``_compare`` names a table that is not that."""
    table = folder / content["report"] / "table.json"
    if not table.is_file() or hash_file(table) != content["files"][_table_of(content)]:
        return
    try:
        found = read_verdicts(store.read_json(table))
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"{table} is no table of a run"
        return
    if found != content["verdicts"]:
        yield f"the attested verdicts are not those of {table}"


def _name(files: list[str]) -> str:
    """Count files and name the first."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0]}{more}"
