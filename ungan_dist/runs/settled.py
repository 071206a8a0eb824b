"""Find what an earlier run of the same config settled, so that the same command continues it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.recipes import RECIPES
from ungan_dist.config.training import ShadowConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import CONFIG_FILE, folder_of, read_plain, read_plain_of


def is_made(config: AuditConfig, hash: str) -> bool:
    """Whether the output folder has a run of this config and hash."""
    with contextlib.suppress(ConfigError):
        return read_plain(folder_of(config, hash))["run_hash"] == hash
    return False


def find_engine(runs: Iterable[tuple[AuditConfig, str]], device: str) -> str:
    """Return the engine of the run that exists among these configs and hashes, or nothing if none exists."""
    for config, hash in runs:
        with contextlib.suppress(ConfigError):
            plain = read_plain_of(folder_of(config, hash), hash)
            if plain is not None and plain["resolved"]["device"] == device:
                return str(plain["resolved"]["engine"])
    return ""


def settle_unit_size(config: AuditConfig, hash_of: Callable[[AuditConfig], str]) -> AuditConfig:
    """Return the config with the unit size that stands in the hash of its run.

    Results of the serial engine do not depend on the unit size. It stays in the hash at the recipe's default, so that
    runs keep their names. A run that an earlier version made with another size keeps that one.

    Args:
        config: The config as asked.
        hash_of: Returns the run hash of a config.
    """

    def sized(unit_size: int) -> AuditConfig:
        return dataclasses.replace(config, shadows=dataclasses.replace(config.shadows, unit_size=unit_size))

    recipe = RECIPES.get(config.name)
    default = recipe().shadows.unit_size if recipe else ShadowConfig.unit_size
    earlier: list[int] = []
    name, output = config.execution.run_name or f"{config.name}-*", Path(config.output)
    for path in sorted(output.glob(f"{name}/{CONFIG_FILE}")):
        with contextlib.suppress(ConfigError, ValueError, KeyError, TypeError, OSError):
            record = read_plain(path.parent)
            unit_size = record["identity"]["shadows"]["unit_size"]
            if record["run_hash"] == hash_of(sized(unit_size)):
                earlier.append(unit_size)
    known = [unit_size for unit_size in (config.shadows.unit_size, default) if unit_size in earlier]
    return sized([*known, *earlier, default][0])
