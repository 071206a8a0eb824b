"""The run folder: what was asked, by which config, and the models that came out of it."""

from __future__ import annotations

import dataclasses
import os
import platform
import typing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist import store
from ungan_dist.config import identity as identities
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import ExecutionHalf
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    pass

CONFIG_FILE = "config.json"
PURGED_FILE = "purged.json"
"""The record of a purge."""
PURGING_FILE = "purging.json"
"""Lies there while one is under way."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What ``config.json`` of a run folder says."""

    config: AuditConfig
    run_hash: str
    data_hash: str
    channels: int
    num_classes: int
    resolved: dict[str, Any]
    given_hash: str = ""
    """Over the files that were given; empty where none was."""
    architecture: str = ""
    """Of what a factory returns; empty where there is none."""


def folder_of(config: AuditConfig, run_hash: str) -> Path:
    """The run folder: its given name, or the recipe's with the first digits of the hash.

    Raises:
        ConfigError: the output is object storage; a run works in the folder behind it.
    """
    if is_url(config.output):
        raise ConfigError(f"the output must be a folder here, got {config.output}: storage is for ungan-dist run")
    return Path(config.output).resolve() / (config.execution.run_name or f"{config.name}-{run_hash[:8]}")


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes a run folder's record, after a look at the one that lies there.

    Raises:
        ConfigError: the folder was made by another identity, the message names the fields that differ; or purged.
    """
    refuse_purged(folder)
    wanted = _plain(record)
    path = folder / CONFIG_FILE
    if path.exists():
        present = _read_plain(folder)
        before, after = ({key: side.get(key) for key in _UNCHANGEABLE} for side in (present, wanted))
        lines = identities.differences(before, after)
        if lines:
            raise ConfigError(
                f"{folder} holds a run of another config: {'; '.join(lines)}. "
                f"Choose another --execution.run-name, or give the options it was made with"
            )
        if present == wanted:
            return
    store.write_json(path, wanted)


def refuse_purged(folder: Path) -> None:
    """Refuses a run whose forget data are gone: nothing can be computed from what is left.

    Raises:
        ConfigError: it was purged, or a purge was cut short.
    """
    if (folder / PURGING_FILE).exists():
        raise ConfigError(f"{folder} is being purged, or its purge was cut short: finish it with ungan-dist purge")
    if (folder / PURGED_FILE).exists():
        when = store.read_json(folder / PURGED_FILE)["purged"]
        raise ConfigError(
            f"{folder} was purged on {when}: the forget data and all that was derived from single examples are gone, "
            f"so nothing can be computed or reported anew. Its aggregates are kept in table.json, table.md and "
            f"report.html. For another audit choose another --execution.run-name"
        )


_UNCHANGEABLE = ("identity", "data_hash", "given_hash", "architecture", "resolved", "results_version")


def extend_config(config: AuditConfig, folder: Path, record: RunRecord) -> AuditConfig:
    """The config with what the run in a folder has been asked before: append-only fields never shrink."""
    if not (folder / CONFIG_FILE).exists() or _read_plain(folder).get("run_hash") != record.run_hash:
        return config
    before = read_run(folder).config
    return dataclasses.replace(
        config,
        methods=(*before.methods, *(method for method in config.methods if method not in before.methods)),
        num_seeds=max(before.num_seeds, config.num_seeds),
        shadows=dataclasses.replace(
            config.shadows, num_models=max(before.shadows.num_models, config.shadows.num_models)
        ),
    )


def find_changes(before: RunRecord, now: RunRecord) -> list[str]:
    """Why what a run was made from is no longer what lies there, in words; nothing where it still is.

    Args:
        before: the record of the run.
        now: that of a plan of the same config.
    """
    if now.data_hash != before.data_hash:
        return [f"the data is not what the run was made from: hash {now.data_hash[:12]}"]
    if now.given_hash != before.given_hash:
        return ["the weights or lists that were given are not what the run was made from"]
    if now.architecture != before.architecture:
        factory = before.config.model.factory
        return [f"the model that {factory} returns has another architecture than the one that the run was made with"]
    return []


def _data_path(config: AuditConfig) -> str | None:
    """Where the data lay, as an absolute path, so that a report can be written from any folder."""
    path = config.source.path
    if path is None and config.source.kind == "cifar10":
        path = os.environ.get("CIFAR10_PARQUET")
    return None if path is None else str(Path(path).absolute())


def _plain(record: RunRecord) -> dict[str, Any]:
    return {
        "identity": identities.identity(record.config),
        "appended": identities.appended(record.config),
        "source_path": _data_path(record.config),
        "run_hash": record.run_hash,
        "data_hash": record.data_hash,
        "channels": record.channels,
        "num_classes": record.num_classes,
        "resolved": record.resolved,
        "results_version": identities.RESULTS_VERSION,
        **({"architecture": record.architecture} if record.architecture else {}),
    } | _given(record)


def _given(record: RunRecord) -> dict[str, Any]:
    """The files that were given, by absolute path, so that a report can be written from any folder."""
    paths = {name: path for name, path in dataclasses.asdict(record.config.given).items() if path is not None}
    if not paths:
        return {}
    return {
        "given": {name: str(Path(path).absolute()) for name, path in paths.items()},
        "given_hash": record.given_hash,
    }


def _read_plain(folder: Path) -> dict[str, Any]:
    try:
        return store.read_json(folder / CONFIG_FILE)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} is not a run folder: it has no {CONFIG_FILE}") from error
    except ValueError as error:
        raise ConfigError(
            f"{folder / CONFIG_FILE} is damaged ({error}): restore it, or run into another folder"
        ) from error


def read_run(folder: Path) -> RunRecord:
    """The record of a run folder, its config whole again (with the folder's parent as output).

    Raises:
        ConfigError: not a run folder, or its record is damaged or of another version of this software.
    """
    plain = _read_plain(folder)
    try:
        values = plain["identity"]
        values["methods"] = plain["appended"]["methods"]
        values["num_seeds"] = plain["appended"]["num_seeds"]
        values["shadows"]["num_models"] = plain["appended"]["shadows.num_models"]
        values["source"]["path"] = plain["source_path"]
        values["given"] = plain.get("given", {})
        config = _from_plain(AuditConfig, values)
        config = dataclasses.replace(
            config,
            output=str(folder.resolve().parent),
            execution=dataclasses.replace(config.execution, run_name=folder.resolve().name),
        )
        names = ("run_hash", "data_hash", "channels", "num_classes", "resolved")
        later = {name: plain.get(name, "") for name in ("given_hash", "architecture")}
        return RunRecord(config=config, **later, **{name: plain[name] for name in names})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{folder / CONFIG_FILE} cannot be read by this version ({error!r})") from error


def _from_plain(kind: Any, value: Any) -> Any:
    """A frozen config from plain data: nested configs by their annotations, lists as tuples."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {field.name for field in dataclasses.fields(kind)}
        known = known - {field.name for field in dataclasses.fields(ExecutionHalf)} | {"given"}
        unknown = set(value) - known
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        return kind(**{name: _from_plain(hints[name], inner) for name, inner in value.items()})  # pyright: ignore[reportCallIssue]
    return tuple(value) if isinstance(value, list) else value


def versions() -> dict[str, str]:
    """Versions of what computes: Python and the packages whose code is in a result's path."""
    packages = ("ungan-dist", "torch", "torchvision", "numpy", "scipy")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
