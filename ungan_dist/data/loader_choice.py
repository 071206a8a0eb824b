"""Choose a run's loader: pixels resident in memory if they fit, else FFCV's file."""

from __future__ import annotations

import os
from typing import Literal

import torch

from ungan_dist.data.ffcv.availability import REMEDY, find_import_error
from ungan_dist.data.memory import get_memory_limit
from ungan_dist.errors import ConfigError

Loader = Literal["ffcv", "resident"]

RESIDENT_FRACTION = 1 / 4
"""Largest fraction of memory used for resident pixels."""


def resolve_loader(
    wanted: Literal["auto", "ffcv", "resident"], num_bytes: int, device: str
) -> tuple[Loader, str | None]:
    """Choose a loader.

    Args:
        wanted: Loader of the config.
        num_bytes: Size of all pixels.
        device: Type of the device that trains.

    Returns:
        The loader, and a warning for the user if there is one.

    Raises:
        ConfigError: The config requires ``ffcv``, and FFCV cannot be imported.
    """
    if wanted == "resident":
        return "resident", None
    if wanted == "ffcv":
        if reason := find_import_error():
            raise ConfigError(f"data.loader is ffcv, but FFCV cannot be used ({reason}): {REMEDY}")
        return "ffcv", None
    memory = get_memory_limit(device)
    if num_bytes <= RESIDENT_FRACTION * memory:
        return "resident", None
    if reason := find_import_error():
        return "resident", (
            f"the data's {num_bytes:,} bytes stay in memory although they are more than a quarter of it ({memory:,} "
            f"bytes), because FFCV cannot be used ({reason}): {REMEDY}"
        )
    return "ffcv", None


def choose_num_threads(wanted: int | None, device: str) -> int:
    """Return the number of reading threads: one on a CPU, else all cores divided by the GPUs."""
    if wanted is not None:
        return wanted
    if device != "cuda":
        return 1
    return max(1, len(os.sched_getaffinity(0)) // max(1, torch.cuda.device_count()))
