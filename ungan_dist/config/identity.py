"""What a result is: the identity half of a config, its hash, and how two of them differ."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from ungan_dist.config.audit import APPEND_ONLY_FIELDS, EXECUTION_FIELDS, AuditConfig

RESULTS_VERSION = 1
"""Raised by hand when the same config gives other results than before. Never a commit hash: it would orphan a fleet."""


def identity(config: AuditConfig) -> dict[str, Any]:
    """The identity half as plain data, without the fields that only extend a run."""
    values = plain(config)
    for name in EXECUTION_FIELDS:
        del values[name]
    for name in APPEND_ONLY_FIELDS:
        *parents, leaf = name.split(".")
        owner = values
        for parent in parents:
            owner = owner[parent]
        del owner[leaf]
    if config.train.num_workers == 1 or config.train.sync_batch_norm:
        del values["train"]["num_workers"], values["train"]["sync_batch_norm"]
        values["shadows"].pop("data_parallel", None)
    # the path says where data lies, not what it is: its content is hashed apart
    del values["source"]["path"]
    return json.loads(json.dumps(values))


def plain(config: Any) -> dict[str, Any]:
    """A config as nested plain data, to be hashed.

    A field that was added later (``metadata=ADDED``) is left out at its default, so that what was hashed before there
    was such a field keeps its name: runs and fleets of shadow models outlive new options.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata.get("added") and value == _default(field):
            continue
        values[field.name] = plain(value) if dataclasses.is_dataclass(value) else value
    return values


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def appended(config: AuditConfig) -> dict[str, Any]:
    """The append-only fields: how far a run has been asked to go."""
    values: dict[str, Any] = {}
    for name in APPEND_ONLY_FIELDS:
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = list(value) if isinstance(value, tuple) else value
    return values


def content_hash(value: Any) -> str:
    """SHA-256 of plain data in canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_hash(config: AuditConfig, data_hash: str, given_hash: str = "", architecture: str = "") -> str:
    """Names a run: the identity, the content of the data and of what was given, a user's own architecture, and the
    version of results.
    """
    facts = {"identity": identity(config), "data": data_hash, "results_version": RESULTS_VERSION}
    more = {"given": given_hash, "architecture": architecture}
    return content_hash(facts | {name: value for name, value in more.items() if value})


def differences(before: Any, after: Any, prefix: str = "") -> list[str]:
    """The leaves at which two identities differ, each as ``name: before → after``."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for name in sorted(set(before) | set(after))
            for line in differences(before.get(name), after.get(name), f"{prefix}.{name}" if prefix else name)
        ]
    return [] if before == after else [f"{prefix}: {before!r} → {after!r}"]
