"""The identity of a run: the part of its config that determines results, hashed; and the difference of two."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ungan_dist.config.audit import APPEND_ONLY_FIELDS, LATER_APPEND_ONLY_FIELDS, AuditConfig
from ungan_dist.config.execution import ExecutionHalf
from ungan_dist.files import hash_json

RESULTS_VERSION = 3
"""Raised by hand when the same config gives new results. A commit hash here would orphan every fleet.

1: until commit c61b884. 2: fused optimizers, and channels_last by default. 3: one forward pass for both
forget batches of UnGAN's adversarial steps.
"""


def identity(config: AuditConfig) -> dict[str, Any]:
    """Return the identity half as plain data, without the fields that only extend a run."""
    values = plain(config)
    for field in dataclasses.fields(ExecutionHalf):
        del values[field.name]
    for name in (*APPEND_ONLY_FIELDS, *LATER_APPEND_ONLY_FIELDS):
        *parents, leaf = name.split(".")
        owner = values
        for parent in parents:
            owner = owner[parent]
        owner.pop(leaf, None)
    if config.train.num_workers == 1 or config.train.sync_batch_norm:
        del values["train"]["num_workers"], values["train"]["sync_batch_norm"]
        values["shadows"].pop("data_parallel", None)
    # the path is a location; the data itself is hashed by content
    del values["source"]["path"]
    return json.loads(json.dumps(values))


def plain(config: Any) -> dict[str, Any]:
    """Return a config as nested plain data, to be hashed.

    A field that was added later (``metadata=ADDED``) is left out at its default. Old runs and fleets thus keep their
    hashes.
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
    """Return the append-only fields, which set the extent of a run."""
    values: dict[str, Any] = {}
    for name in (*APPEND_ONLY_FIELDS, *LATER_APPEND_ONLY_FIELDS):
        value, default = config, None
        for part in name.split("."):
            default = next(field.default for field in dataclasses.fields(value) if field.name == part)
            value = getattr(value, part)
        if name in APPEND_ONLY_FIELDS or value != default:
            values[name] = list(value) if isinstance(value, tuple) else value
    return values


def with_appended(config: AuditConfig, extent: dict[str, Any]) -> AuditConfig:
    """Return a config with the append-only fields of another extent."""
    return dataclasses.replace(
        config,
        methods=tuple(extent["methods"]),
        own_methods=tuple(extent.get("own_methods", ())),
        num_seeds=extent["num_seeds"],
        num_unlearnings=extent.get("num_unlearnings", 1),
        shadows=dataclasses.replace(config.shadows, num_models=extent["shadows.num_models"]),
        attack=dataclasses.replace(
            config.attack,
            unlearned_shadows=tuple(extent.get("attack.unlearned_shadows", ())),
            unlearned_seeds=extent.get("attack.unlearned_seeds", 1),
        ),
    )


def content_hash(value: Any) -> str:
    """Return the SHA-256 of plain data in canonical JSON."""
    return hash_json(value)


def run_hash(
    config: AuditConfig,
    data_hash: str,
    given_hash: str = "",
    architecture: str = "",
    results_version: int = RESULTS_VERSION,
) -> str:
    """Hash the identity, the data, the given files, the architecture of a user's model and the results version."""
    facts = {"identity": identity(config), "data": data_hash, "results_version": results_version}
    more = {"given": given_hash, "architecture": architecture}
    return content_hash(facts | {name: value for name, value in more.items() if value})


def differences(before: Any, after: Any, prefix: str = "") -> list[str]:
    """List the leaves at which two identities differ, each as ``name: before → after``."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for name in sorted(set(before) | set(after))
            for line in differences(before.get(name), after.get(name), f"{prefix}.{name}" if prefix else name)
        ]
    return [] if before == after else [f"{prefix}: {before!r} → {after!r}"]
