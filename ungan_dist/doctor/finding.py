"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line."""

    name: str
    level: Literal["ok", "warning", "failure"]
    """warning: runs go on, with less or more slowly. failure: they would not."""
    message: str
    remedy: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(name=name, level="ok", message=message)


def warning(name: str, message: str, remedy: str) -> Finding:
    return Finding(name=name, level="warning", message=message, remedy=remedy)


def failure(name: str, message: str, remedy: str) -> Finding:
    return Finding(name=name, level="failure", message=message, remedy=remedy)
