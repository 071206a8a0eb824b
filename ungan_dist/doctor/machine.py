"""Memory and disk that are free now."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from ungan_dist.doctor.finding import Finding, failure, ok, warning

WORKER_BYTES = 1 << 30
"""About what a worker of a small recipe holds; `ungan-dist plan` measures a recipe's own."""
LITTLE_DISK_BYTES = 2 << 30
NO_DISK_BYTES = 64 << 20


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, its container's and its own limit."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    if own != resource.RLIM_INFINITY:
        free = min(free, own)
    return max(0, free)


def check_memory() -> Finding:
    """Room for one worker at least, better for one a core."""
    return memory_finding("memory", free_memory(), os.cpu_count() or 1)


def memory_finding(name: str, free: int, num_workers: int) -> Finding:
    """What is to be said of so much memory for so many workers."""
    said = f"{free / 2**30:.1f} GiB free"
    if free < WORKER_BYTES:
        return failure(
            name, f"{said}, a worker needs about {WORKER_BYTES / 2**30:.0f}", "end something, or raise the limit"
        )
    if free < num_workers * WORKER_BYTES:
        most = free // WORKER_BYTES
        return warning(
            name,
            f"{said} for {num_workers} workers of about {WORKER_BYTES / 2**30:.0f} GiB each",
            f"--execution.num-processes {most} (or --fleet.num-workers), or free some",
        )
    return ok(name, said)


def check_disk(output: Path) -> Finding:
    """Space where runs are written."""
    place = next(parent for parent in (output, *output.parents) if parent.exists())
    return disk_finding("disk", shutil.disk_usage(place).free, str(place))


def disk_finding(name: str, free: int, place: str) -> Finding:
    """What is to be said of so much disk."""
    said = f"{free / 2**30:.1f} GiB free at {place}"
    remedy = "free some, or choose another --output; `ungan-dist plan RECIPE` says what a run writes"
    if free < NO_DISK_BYTES:
        return failure(name, said, remedy)
    return warning(name, said, remedy) if free < LITTLE_DISK_BYTES else ok(name, said)
