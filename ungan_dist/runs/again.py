"""The command that continues a run, from its record."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.recipes import RECIPES
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import read_run
from ungan_dist.runs.views import narrow, split_place


def describe_continuing(folder: Path) -> str:
    """Say how a run, or a report of it, is continued.

    Args:
        folder: A run folder or that of a view.
    """
    run, place = split_place(folder)
    try:
        return f"continue it with {write_command(narrow(read_run(run), run, place).config)}"
    except (ConfigError, ValueError):  # of an earlier version, or damaged
        return "continue it with the ungan-dist run that began it"


def write_command(config: AuditConfig) -> str:
    """Write the ``ungan-dist run`` that gives a config: its recipe, and the options that differ from it.

    Raises:
        ValueError: The config is of no recipe, or has what only Python can give.

    Examples:
        >>> from ungan_dist.config.recipes import digits
        >>> write_command(digits(num_seeds=2, split={"forget": "random=9"}))
        'ungan-dist run digits --num-seeds 2 --split.forget random=9'
    """
    if config.name not in RECIPES or config.own_options:
        raise ValueError(f"no command gives this config of {config.name}")
    return shlex.join(["ungan-dist", "run", config.name, *_sort_options(RECIPES[config.name](), config)])


def _sort_options(default: AuditConfig, config: AuditConfig) -> list[str]:
    """List the options that differ from a recipe's config, by name."""
    return [word for words in sorted(_list_options(default, config, "--")) for word in words]


def _list_options(default: Any, config: Any, prefix: str) -> Iterator[list[str]]:
    for field in dataclasses.fields(config):
        before, now = getattr(default, field.name), getattr(config, field.name)
        name = prefix + field.name.replace("_", "-")
        if before == now or field.metadata.get("derived"):
            continue
        if dataclasses.is_dataclass(now) and type(before) is type(now):
            yield from _list_options(before, now, f"{name}.")
        elif isinstance(now, bool):
            yield [name if now else f"{prefix}no-{field.name.replace('_', '-')}"]
        elif isinstance(now, tuple) and all(isinstance(one, str) for one in now):
            yield [name, ",".join(now)]
        elif isinstance(now, tuple):
            yield [name, *map(str, now)]
        else:
            yield [name, str(now)]
