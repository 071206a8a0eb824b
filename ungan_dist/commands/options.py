"""Parse a recipe's name and options on the command line into a config."""

from __future__ import annotations

import shutil
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
    return parse_config(RECIPES[name](), options, program=f"ungan-dist {command} {name}")


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
    from ungan_dist.config.audit import AuditConfig

    registry = tyro.constructors.ConstructorRegistry()
    add_rule(registry, SHORT if default.name == "custom" else {}, whole=AuditConfig)

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
            AuditConfig,
            default=default,
            args=arguments,
            prog=program,
            description=write_overview(default.name, min(shutil.get_terminal_size().columns, 100)),
            registry=registry,
        )
    except (ValueError, RefusedConfig) as error:
        raise ConfigError(str(error)) from error
