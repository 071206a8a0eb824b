"""Verdicts of earlier self-checks on this machine, one JSON file each in the user's cache folder."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ungan_dist import kernels
from ungan_dist.files import hash_file, hash_json
from ungan_dist.kernels.blocks import table_hash
from ungan_dist.kernels.self_check import Verdict
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.runs.kernel_choice import FOLDER
from ungan_dist.runs.machine_cache import read_cached, write_cached


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """The device that a verdict holds for."""

    kind: str
    """Name and capability, by which a worker recognises a device of the same kind."""
    driver: str


def make_key(use: KernelUse, device: DeviceFacts) -> dict[str, Any]:
    """Return everything that a verdict depends on, as plain data."""
    return {
        "operation": use.operation,
        "shapes": dict(use.shapes),
        "dtype": "float32",
        "device": dataclasses.asdict(device),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "blocks": table_hash(use.operation),
        "sources": _hash_sources(),
    }


def read_verdict(key: dict[str, Any]) -> Verdict | None:
    """Return the stored verdict of a key; None if there is none, or its file is damaged."""
    values = read_cached(FOLDER, key)
    if values is None:
        return None
    try:
        interval = values["interval"]
        return Verdict(**values | {"interval": None if interval is None else tuple(interval)})
    except (KeyError, TypeError):  # of another version
        return None


def write_verdict(key: dict[str, Any], verdict: Verdict) -> None:
    """Store a verdict."""
    write_cached(FOLDER, key, dataclasses.asdict(verdict))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _hash_sources() -> str:
    folder = Path(kernels.__file__).parent
    return hash_json({str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*.py"))})[:16]
