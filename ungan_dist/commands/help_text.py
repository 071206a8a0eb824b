"""Help texts of options: the docstring below each config field, without its line breaks."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import tyro


class RefusedConfig(Exception):
    """A ``ValueError`` of the whole config, which tyro would catch and print with the name of our class."""


def add_rule(
    registry: tyro.constructors.ConstructorRegistry,
    short: Mapping[str, str],
    *,
    whole: type,
    make: Callable[..., Any] | None = None,
) -> None:
    """Teach tyro to read frozen configs field by field, with the docstrings as help.

    Args:
        registry: The registry of the command line.
        short: Short name → full option; the help lists both.
        whole: The config that contains all others; its ``ValueError`` becomes ``RefusedConfig``.
        make: Makes the result from the values of ``whole``; defaults to ``whole``.
    """

    def build_whole(**values: Any) -> Any:
        try:
            return (make or whole)(**values)
        except ValueError as error:
            raise RefusedConfig(str(error)) from error

    aliases = {full.removeprefix("--").replace("-", "_"): alias for alias, full in short.items()}

    @registry.struct_rule
    def _(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        kind = info.type
        if not dataclasses.is_dataclass(kind) or not isinstance(info.default, kind):
            return None
        hints = typing.get_type_hints(kind, include_extras=True)
        owner = kind.__name__.removesuffix("Config").lower()
        fields: list[tyro.constructors.StructFieldSpec] = []
        for field in dataclasses.fields(kind):
            if field.metadata.get("derived"):
                continue
            hint: Any = hints[field.name]
            if alias := aliases.get(f"{owner}.{field.name}"):
                hint = Annotated[hint, tyro.conf.arg(aliases=[alias])]
            fields.append(
                tyro.constructors.StructFieldSpec(
                    name=field.name,
                    type=hint,
                    default=getattr(info.default, field.name),
                    helptext=functools.partial(_help_of, kind, field.name),
                )
            )
        return tyro.constructors.StructConstructorSpec(
            instantiate=build_whole if kind is whole else kind, fields=tuple(fields)
        )


def _help_of(kind: type, name: str) -> str | None:
    return field_texts(kind).get(name)


@functools.cache
def field_texts(kind: type) -> dict[str, str]:
    """Map each field of a config to the docstring below it and the ``known`` values of its metadata."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            with contextlib.suppress(OSError):  # a class that was made without a file
                texts |= _own_texts(base)
    for field in dataclasses.fields(kind):
        if "known" in field.metadata:
            texts[field.name] += f" Known: {', '.join(field.metadata['known'])}."
    return texts


def _own_texts(kind: type) -> dict[str, str]:
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            texts[field.target.id] = unwrap(text.value.value)
    return texts


def unwrap(text: str) -> str:
    """Remove line breaks within paragraphs, and backticks."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("``", "")
