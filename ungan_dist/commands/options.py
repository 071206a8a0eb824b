"""Parse a recipe's name and options on the command line into a config."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist.errors import ConfigError, suggest

if TYPE_CHECKING:
    from ungan_dist.config.audit import AuditConfig


def recipe_config(arguments: list[str], *, command: str) -> AuditConfig:
    """Parse ``RECIPE [OPTIONS]``.

    Args:
        arguments: The recipe's name and the options behind it.
        command: Name of the command, for messages.

    Raises:
        ConfigError: There is no such recipe, or a value is out of range.
    """
    from ungan_dist.config.recipes import RECIPES

    name = arguments[0] if arguments else ""
    if not name or name.startswith("-"):
        raise ConfigError(f"name a recipe first: {', '.join(RECIPES)} (see ungan-dist {command} --help)")
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}{suggest(name, RECIPES)}; known: {', '.join(RECIPES)}")
    options = arguments[1:]
    if name == "custom":
        options = [_in_full(option) for option in options]
        _refuse_repeats(options)
    named = [option.partition("=")[0].replace("_", "-") for option in options]
    if short := next((option for option in named if option in SHORT), None):
        raise ConfigError(f"{name} has no option {short}: here it is {SHORT[short]}")
    config = parse_config(RECIPES[name](), options, program=f"ungan-dist {command} {name}")
    try:
        if "--split.forget-fraction" in named:
            config.split.refuse_unused_fraction()
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return config


def check_records(config: AuditConfig) -> None:
    """Refuse missing records of single examples before anything is imported or read.

    Raises:
        ConfigError: ``given.scores`` names none.
    """
    if config.given.scores is None:
        return
    from ungan_dist.data.memorisation import find_records

    try:
        find_records(Path(config.given.scores))
    except ValueError as error:
        raise ConfigError(str(error)) from error


SHORT = {
    "--model": "--model.factory",
    "--original": "--given.original",
    "--original-key": "--given.original-key",
    "--forget": "--given.forget",
    "--forget-copies": "--split.forget-copies",
    "--members": "--given.members",
    "--unlearned": "--given.unlearned",
    "--unlearned-key": "--given.unlearned-key",
    "--retrained": "--given.retrained",
    "--retrained-key": "--given.retrained-key",
}
"""Short names for the main options of the recipe ``custom``."""


def _in_full(option: str) -> str:
    name, equals, value = option.partition("=")
    return SHORT.get(name, name) + equals + value


def _refuse_repeats(options: list[str]) -> None:
    """Refuse repeats, of which all but the last would be dropped silently."""
    named = [option.partition("=")[0] for option in options]
    for short, full in SHORT.items():
        if named.count(full) > 1:
            raise ConfigError(
                f"{short} was given {named.count(full)} times but takes one value: give it once, and start another run "
                f"for each of the others; the runs share their shadow models"
            )


def parse_config(default: AuditConfig, arguments: list[str], *, program: str) -> AuditConfig:
    """Apply the options of the command line to a recipe's config.

    Unknown options and invalid choices end the process with code 2.

    Args:
        default: The recipe's config.
        arguments: The options.
        program: Name of the program in the help.

    Raises:
        ConfigError: A value is out of range.
    """
    import tyro

    from ungan_dist.commands.help_text import RefusedConfig, add_rule
    from ungan_dist.commands.overview import write_overview

    registry = tyro.constructors.ConstructorRegistry()
    try:
        whole, make = _with_own_options(arguments)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    add_rule(registry, SHORT if default.name == "custom" else {}, whole=whole, make=make)

    @registry.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if info.type != tuple[str, ...]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="NAME,NAME,…",
            instance_from_str=lambda given: tuple(given[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(value)],
        )

    try:
        return tyro.cli(
            whole,
            default=whole(**{field.name: getattr(default, field.name) for field in dataclasses.fields(default)}),
            args=arguments,
            prog=program,
            description=write_overview(default.name, min(shutil.get_terminal_size().columns, 100)),
            registry=registry,
        )
    except (ValueError, RefusedConfig) as error:
        raise ConfigError(str(error)) from error


def _with_own_options(arguments: list[str]) -> tuple[type, Callable[..., Any]]:
    """Add the options of the user's own methods to the config that is parsed.

    Args:
        arguments: The options of the command line.

    Returns:
        The class to parse, and the function that makes an ``AuditConfig`` from its values.

    Raises:
        ValueError: A method cannot be imported, or has no options that can be read.
    """
    from ungan_dist.config.audit import AuditConfig
    from ungan_dist.config.own.functions import import_method, is_own, name_options, refuse_same_names
    from ungan_dist.config.own.options import find_options, write_options

    own = [name for name in _list_methods(arguments) if is_own(name)]
    refuse_same_names(own, [field.name for field in dataclasses.fields(AuditConfig)])
    kinds = {path: kind for path in own if (kind := find_options(import_method(path), path)) is not None}
    if not kinds:
        return AuditConfig, AuditConfig
    fields = [(name_options(path), kind, dataclasses.field(default_factory=kind)) for path, kind in kinds.items()]
    whole = dataclasses.make_dataclass("AuditConfig", fields, bases=(AuditConfig,), frozen=True, kw_only=True)

    def make(**values: Any) -> AuditConfig:
        texts = [text for path in kinds for text in write_options(path, values.pop(name_options(path)))]
        return AuditConfig(**values, own_options=tuple(texts))

    return whole, make


def _list_methods(arguments: list[str]) -> list[str]:
    """Return the names that ``--methods`` lists."""
    found = ""
    for option, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = option.partition("=")
        if name == "--methods":
            found = value if equals else following
    return found.split(",")
