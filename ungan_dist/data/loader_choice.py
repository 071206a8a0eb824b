"""Which loader serves a run: pixels resident in memory while they fit, FFCV's file otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from ungan_dist.data.ffcv.availability import REMEDY, find_import_error
from ungan_dist.errors import ConfigError

Loader = Literal["ffcv", "resident"]

SHARE = 4
"""Pixels may take one part in so many of the memory: models, batches and the system want the rest."""


def resolve_loader(
    wanted: Literal["auto", "ffcv", "resident"], num_bytes: int, device: str
) -> tuple[Loader, str | None]:
    """The loader, and what the user should know of the choice.

    Args:
        wanted: as the config says.
        num_bytes: of all pixels.
        device: type of device that trains.

    Raises:
        ConfigError: ``ffcv`` where FFCV cannot be imported.
    """
    if wanted == "resident":
        return "resident", None
    if wanted == "ffcv":
        if reason := find_import_error():
            raise ConfigError(f"data.loader is ffcv, but FFCV cannot be used ({reason}): {REMEDY}")
        return "ffcv", None
    memory = get_memory_limit(device)
    if num_bytes * SHARE <= memory:
        return "resident", None
    if reason := find_import_error():
        return "resident", (
            f"the data's {num_bytes:,} bytes are more than a quarter of the memory ({memory:,}) and are resident all "
            f"the same, since FFCV cannot be used ({reason}): {REMEDY}"
        )
    return "ffcv", None


def get_memory_limit(device: str) -> int:
    """Memory that resident pixels would lie in: the smallest GPU's, or what this process may use of the machine's."""
    if device == "cuda" and torch.cuda.is_available():
        return min(torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count()))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_cgroup_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _cgroup_limits(membership: Path, mounted: Path) -> Iterator[int]:
    """Limits that control groups, version 1 and 2, set to a process: its own group's and those above it.

    Args:
        membership: the process's ``/proc/PID/cgroup``, lines of ``number:controllers:path``.
        mounted: where the tree of groups is mounted. In a container its root may be the container's own group, below
            which the path that the process is told does not exist: then the root's limit is what counts.
    """
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        # no ".." leads out of the tree, as of a process that was moved out of its namespace's root
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            with contextlib.suppress(OSError):
                stated = root.joinpath(*parts[:depth], name).read_text().strip()
                if stated.isdecimal():  # or "max"; version 1 says so by a number beyond every machine's memory
                    yield int(stated)


def choose_num_threads(wanted: int | None, device: str) -> int:
    """Threads with which a process reads: one where a process has one core, else the cores for each GPU."""
    if wanted is not None:
        return wanted
    if device != "cuda":
        return 1
    return max(1, len(os.sched_getaffinity(0)) // max(1, torch.cuda.device_count()))
