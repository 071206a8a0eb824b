"""Finds secrets where none may be: in a runtime environment, which every reader of a job sees, and in manifests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_TELLING_NAME = re.compile(
    r"(?i)(token(?!s)|secret|passw|credential|api_?key|access_?key|private_?key)(?!.*(path|file|name))"
)
_SHAPES = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a cloud access key": re.compile(r"\b(AKIA|ASIA|AROA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}\b"),
    "a service's token": re.compile(r"\b(ghp|gho|ghs|glpat|hf|xox[abp])[_-][0-9A-Za-z-]{16,}\b"),
    "a Ray token": re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])"),
    "a URL with a password": re.compile(r"://[^/\s:@]+:[^/\s:@]+@"),
}


def find_secrets(content: Any, where: str = "") -> list[str]:
    """What looks like a secret in plain data or in text, each with where it stands; the values are not repeated.

    A name that promises a secret (``RAY_AUTH_TOKEN``) with a value beside it counts, and so does a value of a known
    shape under any name. A reference (``valueFrom``, ``secretName``, a path) does not.
    """
    return [f"{place or 'the text'} holds {what}" for place, what in _found(content, where)]


def _found(content: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        # Kubernetes' way: {name: …, value: …}
        named = content.get("name")
        if isinstance(named, str) and content.get("value") and _TELLING_NAME.search(named):
            yield f"{where}.{named}", "a literal value under a secret's name"
        for key, value in content.items():
            place = f"{where}.{key}" if where else str(key)
            if isinstance(value, str) and value and _TELLING_NAME.search(str(key)) and not _is_reference(value):
                yield place, "a literal value under a secret's name"
            yield from _found(value, place)
    elif isinstance(content, str):
        yield from ((where, what) for what, shape in _SHAPES.items() if shape.search(content))
    elif isinstance(content, Sequence) and not isinstance(content, bytes):
        for number, value in enumerate(content):
            yield from _found(value, f"{where}[{number}]")


def _is_reference(value: str) -> bool:
    """A path or a variable, not the secret itself."""
    return value.startswith(("~", "/", "$", "./"))
