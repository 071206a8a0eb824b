"""Memory limits of this process: the machine's, its GPU's and those of its control groups."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def get_memory_limit(device: str) -> int:
    """Return the bytes that resident pixels share with everything else: the smallest GPU's, or this process's limit."""
    if device == "cuda":
        import torch  # the doctor, which runs without torch, reads control groups here

        if num_gpus := torch.cuda.device_count():
            return min(torch.cuda.get_device_properties(gpu).total_memory for gpu in range(num_gpus))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in read_cgroup_limits())])


def read_cgroup_limits(
    membership: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Iterator[tuple[int, int]]:
    """Read the memory limits of the process's control groups, version 1 and 2: its own group's and those above it.

    Args:
        membership: The process's ``/proc/PID/cgroup``, lines of ``number:controllers:path``.
        mounted: Root of the tree of groups. In a container it may be the container's own group, below which the path
            in ``membership`` does not exist. The root's limit then counts.

    Yields:
        Limit and current use in bytes.
    """
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, limit_name, use_name = mounted, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit_name, use_name = mounted / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # ".." would lead out of the tree, as for a process that was moved out of its namespace's root
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            folder = root.joinpath(*parts[:depth])
            with contextlib.suppress(OSError):
                limit = (folder / limit_name).read_text().strip()
                if limit.isdecimal():  # else "max"; version 1 has a number beyond every machine's memory
                    yield int(limit), _read_number(folder / use_name)


def _read_number(path: Path) -> int:
    """Read a counter; 0 if it does not exist."""
    with contextlib.suppress(OSError):
        return int(path.read_text())
    return 0
