"""Presets: complete settings that single config fields override."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

Settings = TypeVar("Settings")


def override(preset: Settings, config: Any) -> Settings:
    """Return the preset with each field replaced by the config's value, unless that is None."""
    settings = cast(Any, preset)
    values = {entry.name: getattr(config, entry.name) for entry in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{name: value for name, value in values.items() if value is not None})
