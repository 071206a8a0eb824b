"""Range checks for configs; each error names the field, its value and the valid range."""

from __future__ import annotations

from math import inf


def positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < inf:
            raise ValueError(f"{name} must be finite and greater than 0, got {value}")


def not_negative(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 <= value < inf:
            raise ValueError(f"{name} must be finite and at least 0, got {value}")


def within(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low < value < high:
            raise ValueError(f"{name} must lie between {low} and {high}, both excluded, got {value}")


ADDED = {"added": True}
"""Metadata of a field that is younger than existing runs; it is left out of hashes while it has its default."""
