"""Memory, file descriptors and threads of the processes of a soak, and whether they grow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WARM_UP_S = 90.0
"""Seconds of a process's life that do not count: it imports packages and fills caches, slowly on a busy machine."""
LEAST_S = 120.0
"""Seconds that a life must be watched afterwards to count."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process on a host."""

    host: str
    pid: int
    started: int
    """Clock ticks since boot; with the pid, this names a life."""
    command: bytes
    """Arguments, each ended by a zero byte."""

    @property
    def kind(self) -> str:
        """``worker``, ``driver``, ``raylet``, ``head`` or empty."""
        first, *others = self.command.split(b"\0")
        if first.startswith(b"ray::Worker"):
            return "worker"
        if b"python" in first and others and others[0].endswith(b"/ungan-dist"):
            return "driver"
        return {b"raylet": "raylet", b"gcs_server": "head"}.get(first.rsplit(b"/", 1)[-1], "")


def list_processes(init_pids: Mapping[str, int]) -> Iterator[Process]:
    """List the processes of hosts.

    Args:
        init_pids: Name of each host → its process 1, as this machine numbers it.
    """
    hosts = {os.readlink(f"/proc/{pid}/ns/pid"): name for name, pid in init_pids.items()}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            host = hosts.get(os.readlink(folder / "ns/pid"))
            if host is not None:
                started = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[19])
                command = (folder / "cmdline").read_bytes()
                yield Process(host=host, pid=int(folder.name), started=started, command=command)
        except OSError:
            continue  # it has ended


def measure(process: Process) -> dict[str, float] | None:
    """Return a process's memory, file descriptors and threads; None if it has ended."""
    folder = Path(f"/proc/{process.pid}")
    try:
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        return {
            "rss_mb": int(status["VmRSS"].split()[0]) / 1e3,
            "fds": float(len(os.listdir(folder / "fd"))),
            "threads": float(status["Threads"]),
        }
    except (OSError, KeyError):
        return None


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Growth within lives, pooled over lives."""

    per_hour: float
    interval: tuple[float, float] | None
    """95 %, bootstrapped over lives; None with fewer than five."""
    num_lives: int
    hours: float
    """Watched in all lives together."""


def fit_slope(lives: Sequence[np.ndarray], *, seed: int = 0) -> Slope | None:
    """Fit one slope to the series of many processes, each with a level of its own.

    Args:
        lives: For each process, rows of (seconds since its first sample, value).
        seed: Of the bootstrap.

    Returns:
        The slope, or None if no process lived long enough.
    """
    late = [life[life[:, 0] >= WARM_UP_S] for life in lives if len(life)]
    late = [life for life in late if len(life) >= 3 and np.ptp(life[:, 0]) >= LEAST_S]
    if not late:
        return None
    centred = [life - life.mean(axis=0) for life in late]
    spread = np.array([(life[:, 0] ** 2).sum() for life in centred])
    common = np.array([(life[:, 0] * life[:, 1]).sum() for life in centred])
    interval = None
    if len(late) >= 5:
        draws = np.random.Generator(np.random.Philox(seed)).integers(len(late), size=(2000, len(late)))
        slopes = 3600 * common[draws].sum(axis=1) / spread[draws].sum(axis=1)
        interval = (float(np.quantile(slopes, 0.025)), float(np.quantile(slopes, 0.975)))
    return Slope(
        per_hour=float(3600 * common.sum() / spread.sum()),
        interval=interval,
        num_lives=len(late),
        hours=float(sum(np.ptp(life[:, 0]) for life in late)) / 3600,
    )


def judge(slope: Slope | None, limit_per_hour: float) -> str:
    """Return ``flat``, ``grows`` or ``not settled``: whether the interval is below the limit, above it, or neither."""
    if slope is None or slope.interval is None:
        return "not settled"
    low, high = slope.interval
    return "flat" if high < limit_per_hour else "grows" if low > limit_per_hour else "not settled"
