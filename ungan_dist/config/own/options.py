"""The options of a method: a dataclass, the type of its second parameter; and the texts by which a run knows them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ungan_dist.config.own.functions import Function, import_method, is_own, name_function, name_options
from ungan_dist.config.user_code import run_user_code


@dataclass(frozen=True)
class NoOptions:
    """Options of a method without any."""


def find_options(function: Function, path: str) -> type | None:
    """Return the dataclass of a method's options; None if the method takes only the request.

    Raises:
        ValueError: the function takes other parameters, or the type is no dataclass with a default for every field.
    """
    with run_user_code(f"method {path}: reading its parameters"):
        parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) not in (1, 2):
        raise ValueError(
            f"method {path} must take the request, and may take its options: "
            f"def {name_options(path)}(request, options: MyOptions); it takes "
            f"{', '.join(one.name for one in parameters) or 'nothing'}"
        )
    if len(parameters) == 1:
        return None
    second = parameters[1]
    with run_user_code(f"method {path}: reading the type of {second.name}"):
        # not that of the request, whose class may be imported for type checkers alone
        typed = SimpleNamespace(__annotations__={"options": second.annotation})
        kind = typing.get_type_hints(typed, globalns=getattr(inspect.unwrap(function), "__globals__", {}))["options"]
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind) or kind is inspect.Parameter.empty:
        raise ValueError(
            f"method {path}: the type of {second.name} must be a frozen dataclass, got {kind!r}: write one beside the "
            f"function, with a default for every field"
        )
    with run_user_code(f"method {path}: {kind.__name__}() without arguments", remedy=". Give every field a default"):
        kind()
    return kind


def list_options(path: str, options: Any) -> tuple[tuple[str, Any], ...]:
    """List the options that differ from their defaults.

    Raises:
        ValueError: a value cannot be written down.
    """
    default = type(options)()
    changed: list[tuple[str, Any]] = []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value == getattr(default, field.name):
            continue
        if not _is_plain(value):
            raise ValueError(
                f"option {field.name} of method {path} is {value!r}: it must be a number, a text, a boolean, None, or "
                f"a tuple of these"
            )
        changed.append((field.name, value))
    return tuple(changed)


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, (int, float, str, type(None)))


def write_options(path: str, options: Any) -> tuple[str, ...]:
    """Write the options that differ from their defaults as texts.

    Raises:
        ValueError: a value cannot be written down.
    """
    return tuple(f"{path}.{name}={json.dumps(value)}" for name, value in list_options(path, options))


def read_options(path: str, texts: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """Read the options of one method from the texts of a config.

    Examples:
        >>> read_options("forget:mine", ["forget:mine.rates=[0.1, 1]", "forget:other.rate=3"])
        (('rates', (0.1, 1)),)
    """
    found: list[tuple[str, Any]] = []
    for text in texts:
        name, _, value = text.partition("=")
        owner, _, option = name.rpartition(".")
        if owner == path:
            found.append((option, _to_tuple(json.loads(value))))
    return tuple(found)


def _to_tuple(value: Any) -> Any:
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value


def to_texts(config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace functions in ``methods``, and options in ``own_options``, by the texts of a config.

    Args:
        config: the config that is changed.
        changes: its new values.

    Raises:
        ValueError: workers cannot import a function, or no method has options of a type that is given.
    """
    changes = dict(changes)
    if isinstance(changes.get("methods"), (list, tuple)):
        changes["methods"] = tuple(name_function(one) if callable(one) else one for one in changes["methods"])
    if isinstance(changes.get("own_options"), (list, tuple)):
        own = [one for one in changes.get("methods", getattr(config, "methods", ())) if is_own(one)]
        kinds = {path: find_options(import_method(path), path) for path in own}
        texts: list[str] = []
        for options in changes["own_options"]:
            owners = [path for path, kind in kinds.items() if kind is type(options)]
            if not isinstance(options, str) and not owners:
                raise ValueError(f"no method of this run has options of type {type(options).__name__}: {options!r}")
            given = (options,) if isinstance(options, str) else ()
            texts += [*given, *(text for path in owners for text in write_options(path, options))]
        changes["own_options"] = tuple(texts)
    return changes
