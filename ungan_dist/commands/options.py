"""From a recipe's name and options on the command line to a config."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any

from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    from ungan_dist.config.audit import AuditConfig


def recipe_config(arguments: list[str], *, command: str) -> AuditConfig:
    """The config of ``RECIPE [OPTIONS]``.

    Raises:
        ConfigError: no such recipe, or a value out of range.
    """
    from ungan_dist.config.recipes import RECIPES

    name = arguments[0] if arguments else ""
    if not name or name.startswith("-"):
        raise ConfigError(f"name a recipe first: {', '.join(RECIPES)}")
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    options = arguments[1:]
    if name == "custom":
        options = [_in_full(option) for option in options]
        _refuse_repeats(options)
    return parse_config(RECIPES[name](), options, program=f"ungan-dist {command} {name}", more=MORE.get(name, ""))


SHORT = {
    "--model": "--model.factory",
    "--original": "--given.original",
    "--forget": "--given.forget",
    "--members": "--given.members",
    "--unlearned": "--given.unlearned",
}
"""What the recipe ``custom`` is mostly told, by short names."""

MORE = {
    "custom": (
        "It audits a model of your own. Name the model (--model MODULE:FUNCTION, found from the current folder), the "
        "data (--source.path) and who is to be forgotten (--forget LIST); where they exist, the trained weights "
        "(--original) and what they were trained on (--members). Shadow models are trained as --train.… says: set it "
        "to what the original was trained with."
    )
}
"""What is told of a recipe beside its options."""


def _in_full(option: str) -> str:
    name, equals, value = option.partition("=")
    return SHORT.get(name, name) + equals + value


def _refuse_repeats(options: list[str]) -> None:
    """The last one would count, and the others be dropped without a word."""
    named = [option.partition("=")[0] for option in options]
    for short, full in SHORT.items():
        if named.count(full) > 1:
            raise ConfigError(
                f"{short} was given {named.count(full)} times, one value is taken: give it once, and the others each "
                f"in a run of their own, which shares the shadow models"
            )


def parse_config(default: AuditConfig, arguments: list[str], *, program: str, more: str = "") -> AuditConfig:
    """A recipe's config with the command line's changes.

    Raises:
        ConfigError: a value out of range. Unknown options and values that are no choice end the process with code 2.
    """
    import tyro

    from ungan_dist.commands.help_text import add_rule
    from ungan_dist.config.audit import AuditConfig

    about = f"Runs the recipe {default.name!r}; the defaults below are the recipe's. {more}"
    registry = tyro.constructors.ConstructorRegistry()
    add_rule(registry, SHORT if default.name == "custom" else {})

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
            # tyro wraps options, not this, and keeps the breaks before lines that are indented
            description=textwrap.fill(about, min(shutil.get_terminal_size().columns, 100), subsequent_indent="  "),
            registry=registry,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
