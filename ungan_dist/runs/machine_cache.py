"""Measurements of this machine that later runs read again: one JSON record each, in the user's cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.files import cache_folder, hash_json


def read_cached(kind: str, key: dict[str, Any]) -> Any:
    """Return what was stored of a kind under a key; None if there is nothing, or its file is damaged.

    Args:
        kind: Name of the folder.
        key: Everything that the measurement depends on, as plain data.
    """
    try:
        content = store.read_record(_path(kind, key))
        return content["value"] if content["key"] == key else None
    except (OSError, store.CorruptResult, KeyError):
        return None


def write_cached(kind: str, key: dict[str, Any], value: Any) -> None:
    """Store plain data atomically. If that fails, the run goes on, and the next one measures again."""
    try:
        store.write_record(_path(kind, key), {"key": key, "value": value})
    except OSError:
        return


def _path(kind: str, key: dict[str, Any]) -> Path:
    return cache_folder() / kind / f"{hash_json(key)[:16]}.json"
