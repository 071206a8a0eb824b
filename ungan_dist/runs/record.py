"""The record of a run, ``config.json`` in its folder: its config, hashes and resolved settings."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.config import identity as identities
from ungan_dist.config.audit import APPEND_ONLY_FIELDS, LATER_APPEND_ONLY_FIELDS, AuditConfig
from ungan_dist.config.execution import ExecutionHalf
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url

CONFIG_FILE = "config.json"
PURGED_FILE = "purged.json"
"""Record of a purge."""
PURGING_FILE = "purging.json"
"""Present while a purge is under way."""


@dataclass(frozen=True, kw_only=True)
class PixelFacts:
    """Size and normalisation of the pictures of a run."""

    height: int
    width: int
    mean: tuple[float, ...]
    """Mean of each channel, of pixels divided by 255."""
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureFacts:
    """Shape and statistics of the features of a run, whose examples are no pictures."""

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    """Mean along the first axis of the shape; empty if the features are used as they are."""
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of ``config.json`` in a run folder."""

    config: AuditConfig
    run_hash: str
    data_hash: str
    channels: int
    num_classes: int
    resolved: dict[str, Any]
    given_hash: str = ""
    """Hash of the user's lists and weights, or of a class to forget; empty if there are none."""
    architecture: str = ""
    """Architecture of the user's own model; empty if there is none."""
    pixels: PixelFacts | None = None
    """What a picture becomes before it reaches the model; None in records from before it was kept."""
    features: FeatureFacts | None = None
    """What the features are, if the examples are no pictures."""
    results_version: int = identities.RESULTS_VERSION
    """Version of the training that made the run: see ``RESULTS_VERSION``."""
    model_notes: tuple[str, ...] = ()
    """Notes for the report on the user's own model, which only its code can give."""

    @property
    def input_size(self) -> tuple[int, ...] | None:
        """Shape of an example behind its channels, as far as the record has it: height and width of a picture."""
        if self.features is not None:
            return self.features.shape[1:]
        return None if self.pixels is None else (self.pixels.height, self.pixels.width)


class DamagedRecord(ConfigError):
    """A record of a run differs from what was written."""


def folder_of(config: AuditConfig, run_hash: str) -> Path:
    """Return the run folder: its given name, or the recipe's name with the first digits of the hash.

    Raises:
        ConfigError: The output is object storage, which has no folder here, or the folder of the data themselves.
    """
    if is_url(config.output):
        raise ConfigError(
            f"the output must be a folder for this command, got {config.output}: only ungan-dist run and its kin take "
            f"object storage"
        )
    output = Path(config.output).resolve()
    if config.source.path is not None and output == Path(config.source.path).expanduser().resolve():
        raise ConfigError(
            f"--output {config.output} is the folder of the data, which runs would be mixed with: choose another, "
            f"such as {output / 'runs'}"
        )
    return output / (config.execution.run_name or f"{config.name}-{run_hash[:8]}")


def write_record(folder: Path, record: RunRecord) -> None:
    """Write a run's record into its folder, or check it against the record that is there.

    Raises:
        ConfigError: The folder holds a run with another identity, whose differing fields are named, or was purged.
    """
    refuse_purged(folder)
    wanted = _to_plain(record)
    path = folder / CONFIG_FILE
    if path.exists():
        present = read_plain(folder)
        if present["results_version"] < wanted["results_version"]:
            raise ConfigError(describe_earlier(folder))
        before, after = ({key: side.get(key) for key in _UNCHANGEABLE} for side in (present, wanted))
        lines = identities.differences(before, after)
        if lines:
            raise ConfigError(
                f"{folder} holds a run of another config: {'; '.join(lines)}. "
                f"Choose another --execution.run-name, or use the options of that run"
            )
        if present == wanted:
            return
    store.write_record(path, wanted)


def describe_earlier(folder: Path) -> str:
    """Describe a run that this version cannot continue, and what to do."""
    return (
        f"{folder} holds a run of an earlier version, whose training gave other results. It can be reported, verified, "
        f"loaded and purged, but not continued. To train it anew, choose another --execution.run-name or --output. To "
        f"continue it, use the version that began it: CHANGELOG.md lists them under 'Results versions'"
    )


def refuse_purged(folder: Path) -> None:
    """Refuse a purged run, from which nothing can be computed any more.

    Raises:
        ConfigError: The run was purged, or a purge was cut short.
    """
    if os.path.lexists(folder / PURGING_FILE):
        raise ConfigError(f"{folder} is being purged, or its purge was cut short: finish it with ungan-dist purge")
    if os.path.lexists(folder / PURGED_FILE):
        when = read_purge(folder).get("purged", "a date that its damaged record does not show")
        raise ConfigError(
            f"{folder} was purged on {when}: the forget data and everything derived from single examples were removed, "
            f"so nothing can be computed or reported again. "
            f"{_AGGREGATES if (folder / 'table.json').exists() else ''}For another audit choose another "
            f"--execution.run-name"
        )


_AGGREGATES = "Aggregates are kept in table.json, table.md and report.html. "


def read_purge(folder: Path, name: str = PURGED_FILE) -> dict[str, Any]:
    """Read the record of a purge; empty if there is none, or if it is damaged."""
    before = {PURGED_FILE: ("purged", "last", "removed", "remaining", "notes"), PURGING_FILE: ("removed",)}
    try:
        return store.read_record(folder / name, unhashed=before[name])
    except (store.CorruptResult, OSError):
        return {}


def describe_cut_purge(folder: Path) -> str:
    """Describe a run whose purge did not end."""
    return f"a purge of {folder} was interrupted: `ungan-dist purge {folder}` finishes it"


_UNCHANGEABLE = ("identity", "data_hash", "given_hash", "architecture", "resolved", "results_version")


def read_plain_of(folder: Path, run_hash: str) -> dict[str, Any] | None:
    """Read a run's record as plain data; ``None`` if the folder has no run of this hash.

    Raises:
        DamagedRecord: The record is damaged.
    """
    plain = read_plain(folder) if (folder / CONFIG_FILE).exists() else {}
    return plain if plain.get("run_hash") == run_hash else None


def find_changes(before: RunRecord, now: RunRecord) -> list[str]:
    """Describe how the inputs of a run have changed; empty if they have not.

    Args:
        before: The record of the run.
        now: The record of a new plan for the same config.
    """
    if now.data_hash != before.data_hash:
        return [f"the data has changed since the run was made: hash {now.data_hash[:12]}"]
    if now.given_hash != before.given_hash:
        return ["the given weights or lists have changed since the run was made"]
    return []


def data_path(config: AuditConfig) -> str | None:
    """Return the absolute path of the data, so that a report can be written from any folder."""
    path = config.source.path
    if path is None and config.source.kind == "cifar10":
        path = os.environ.get("CIFAR10_PARQUET")
    return None if path is None else str(Path(path).expanduser().absolute())


def _to_plain(record: RunRecord) -> dict[str, Any]:
    given = given_paths(record.config)
    return {
        "identity": identities.identity(record.config),
        "appended": identities.appended(record.config),
        "source_path": data_path(record.config),
        "run_hash": record.run_hash,
        "data_hash": record.data_hash,
        "channels": record.channels,
        "num_classes": record.num_classes,
        "resolved": record.resolved,
        "results_version": record.results_version,
        **({"pixels": json.loads(json.dumps(dataclasses.asdict(record.pixels)))} if record.pixels else {}),
        **({"features": json.loads(json.dumps(dataclasses.asdict(record.features)))} if record.features else {}),
        **({"architecture": record.architecture} if record.architecture else {}),
        **({"model_notes": list(record.model_notes)} if record.model_notes else {}),
        **({"given": given | record.config.given.keys} if given else {}),
        **({"given_hash": record.given_hash} if record.given_hash else {}),
    }


def given_paths(config: AuditConfig) -> dict[str, str]:
    """Return the absolute paths of the user's lists and weights, so that a report can be written from any folder."""
    return {name: str(Path(path).absolute()) for name, path in config.given.files.items()}


def describe_missing_run(folder: Path) -> str:
    """Describe a path that is not a run folder, with the nearest run and the command that lists the runs."""
    reason = (
        f"it has no {CONFIG_FILE}" if folder.is_dir() else "it is a file" if folder.exists() else "it does not exist"
    )
    return f"{folder} is not a run folder: {reason}. {suggest_runs(folder)}"


def suggest_runs(folder: Path | None = None) -> str:
    """Suggest the run whose name is nearest to a path's, and the command that lists the runs."""
    if folder is not None and any(folder.glob(f"*/{CONFIG_FILE}")):
        return f"List runs with: ungan-dist runs {folder}"
    near = None if folder is None else nearest_run(folder)
    return (f"Did you mean {near}? " if near else "") + "List runs with: ungan-dist runs DIR"


def nearest_run(folder: Path) -> Path | None:
    """Return the run beside a mistyped path, or in the default output folder, whose name is nearest to it."""
    places = (Path("runs"), folder.parent)
    runs = {config.parent.name: config.parent for place in places for config in place.glob(f"*/{CONFIG_FILE}")}
    similar = difflib.get_close_matches(folder.name, runs, n=1)
    return runs[similar[0]] if similar else None


def read_plain(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a run folder as plain data.

    Raises:
        ConfigError: It is not a run folder.
        DamagedRecord: The record is damaged.
    """
    try:
        plain = store.read_record(folder / CONFIG_FILE, unhashed=_KEYS, optional=_OPTIONAL)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(describe_missing_run(folder)) from error
    except (store.CorruptResult, OSError) as error:
        raise _damaged(folder, str(error)) from error
    if not set(_KEYS) <= set(plain):
        raise _damaged(folder, f"{folder / CONFIG_FILE} is damaged: it is another record")
    return plain


_KEYS = (
    *("identity", "appended", "source_path", "run_hash", "data_hash", "channels", "num_classes", "resolved"),
    "results_version",
)
"""Keys of a record from before records had a hash."""
_OPTIONAL = ("architecture", "given", "given_hash")


def _damaged(folder: Path, reason: str) -> DamagedRecord:
    return DamagedRecord(
        f"{reason}. Restore {folder / CONFIG_FILE} from a copy; or delete it and run the command of the run again, "
        f"which uses every intact result"
    )


def read_run(folder: Path) -> RunRecord:
    """Read the record of a run folder and rebuild its config, with the folder's parent as output.

    Raises:
        ConfigError: It is not a run folder, or its record is from another version of this software.
        DamagedRecord: The record is damaged.
    """
    plain = read_plain(folder)
    try:
        values = plain["identity"]
        for name in (*APPEND_ONLY_FIELDS, *(set(LATER_APPEND_ONLY_FIELDS) & set(plain["appended"]))):
            *part, leaf = name.split(".")
            (values[part[0]] if part else values)[leaf] = plain["appended"][name]
        values["source"]["path"] = plain["source_path"]
        values["given"] = plain.get("given", {})
        config = _from_plain(AuditConfig, values)
        config = dataclasses.replace(
            config,
            output=str(folder.resolve().parent),
            execution=dataclasses.replace(config.execution, run_name=folder.resolve().name),
        )
        names = ("run_hash", "data_hash", "channels", "num_classes", "resolved", "results_version")
        later = {name: plain.get(name, "") for name in ("given_hash", "architecture")}
        notes = tuple(plain.get("model_notes", ()))
        kinds = {"pixels": PixelFacts, "features": FeatureFacts}
        inputs = {name: _from_plain(kind, plain[name]) for name, kind in kinds.items() if name in plain}
        record = RunRecord(config=config, model_notes=notes, **inputs, **later, **{name: plain[name] for name in names})
        found = identities.run_hash(
            config, record.data_hash, record.given_hash, record.architecture, record.results_version
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / CONFIG_FILE} cannot be read by this version ({error!r})") from error
    if record.results_version > identities.RESULTS_VERSION:
        raise ConfigError(f"{folder} was made by a later version of this software: use that version")
    if found != record.run_hash:
        raise _damaged(folder, f"{folder / CONFIG_FILE} is damaged: its hash does not match its identity")
    return record


def _from_plain(kind: Any, value: Any) -> Any:
    """Build a frozen config from plain data: nested configs by their annotations, lists as tuples."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {field.name for field in dataclasses.fields(kind)}
        known = known - {field.name for field in dataclasses.fields(ExecutionHalf)} | {"given"}
        unknown = set(value) - known
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return kind(**{name: _from_plain(hints[name], inner) for name, inner in value.items()})  # pyright: ignore[reportCallIssue]
    return tuple(value) if isinstance(value, list) else value
