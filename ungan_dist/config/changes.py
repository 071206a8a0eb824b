"""Change fields of a config, nested ones by a dict."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
import os
from typing import Any, TypeVar, get_args, get_type_hints

from typeguard import TypeCheckError, check_type

from ungan_dist.config.data import SplitConfig
from ungan_dist.config.own.functions import name_function
from ungan_dist.config.own.options import to_texts
from ungan_dist.errors import suggest

Config = TypeVar("Config")


def change(config: Config, **changes: Any) -> Config:
    """Return a config with other values in some fields.

    Args:
        config: A config of a recipe, or a part of one.
        changes: New values by field. A dict changes the fields of a nested config.

    Raises:
        TypeError: There is no such field, or a value is of another type.
        ValueError: A value is out of range.

    Examples:
        >>> from ungan_dist.config import recipes
        >>> config = change(recipes.digits(), num_seeds=3, train={"epochs": 10})
        >>> config.num_seeds, config.train.epochs, config.train.batch_size
        (3, 10, 64)
    """
    return _change(config, to_texts(config, changes), "")


def _change(config: Any, changes: dict[str, Any], prefix: str) -> Any:
    known = [field.name for field in dataclasses.fields(config)]
    hints, values = get_type_hints(type(config)), dict[str, Any]()
    for name, value in changes.items():
        if name not in known:
            raise TypeError(f"there is no option {prefix}{name}{suggest(name, known)}; known: {', '.join(known)}")
        before = getattr(config, name)
        if dataclasses.is_dataclass(before) and isinstance(value, dict):
            value = _change(before, value, f"{prefix}{name}.")
        if dataclasses.is_dataclass(before) and not isinstance(value, type(before)):
            raise TypeError(f"{prefix}{name} must be a {type(before).__name__} or a dict of its fields, got {value!r}")
        values[name] = _fit(value, hints[name], prefix + name)
    changed = dataclasses.replace(config, **values)
    if isinstance(changed, SplitConfig) and "forget_fraction" in changes:
        changed.refuse_unused_fraction()
    return changed


def _fit(value: Any, hint: Any, name: str) -> Any:
    """Return a value as its field's type has it: a list as a tuple, a path as text, a NumPy number as Python's."""
    admitted = get_args(hint) or (hint,)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        value = int(value) if isinstance(value, numbers.Integral) else float(value)
        if float in admitted and int not in admitted:
            value = float(value)  # 1 and 1.0 are one run
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif inspect.isfunction(value) and str in admitted:
        value = name_function(value)
    elif isinstance(value, list):
        value = tuple(value)
    try:
        if isinstance(value, bool) and bool not in admitted:  # Python counts it as an int
            raise TypeCheckError("is a bool")
        check_type(value, hint)
    except TypeCheckError as error:
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise TypeError(f"{name} must be {wanted}, got {value!r}") from error
    return value
