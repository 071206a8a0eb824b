"""Change a record of a run as an author would, with a fitting hash, or as an accident would, without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.files import hash_json


def plain(path: Path) -> dict[str, Any]:
    """Read a record without a check, and without its hash."""
    return {name: value for name, value in store.read_json(path).items() if name != "sha256"}


def rewrite(path: Path, **fields: Any) -> None:
    """Write a record with changed fields and a fitting hash, as this software would."""
    store.write_record(path, plain(path) | fields)


def make_old(path: Path, **fields: Any) -> None:
    """Write a record as versions did that put no hash over it."""
    store.write_json(path, plain(path) | fields)


def rewrite_run(path: Path, **fields: Any) -> None:
    """Write ``config.json`` with changed fields, as the record of the run that it then describes."""
    record = plain(path.parent.parent / "run/config.json" if not path.exists() else path) | fields
    names = {"identity": "identity", "data": "data_hash", "results_version": "results_version"}
    names |= {"given": "given_hash", "architecture": "architecture"}
    hashed = {name: record[key] for name, key in names.items() if record.get(key)}
    store.write_record(path, record | {"run_hash": hash_json(hashed)})
