"""Limits of one host: its share of a CPU, and its disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import TEMPORARY, Host

PERIOD_US = 100_000


@contextlib.contextmanager
def limiting_cpu(host: Host, share: float) -> Iterator[None]:
    """Give all processes that a host has now, and their children, together a share of one CPU, within the context.

    Skips the test, with the reason, where this user cannot make a control group.
    """
    root = Path("/sys/fs/cgroup")
    if is_unified := (root / "cgroup.controllers").exists():
        name, text = "cpu.max", f"{round(share * PERIOD_US)} {PERIOD_US}"
    else:
        root, name, text = root / "cpu", "cpu.cfs_quota_us", f"{round(share * PERIOD_US)}"
    own, group = root / _find_own_group(is_unified=is_unified), root / f"ungan-{host.name}-{host.pid}"
    try:
        if is_unified:
            (root / "cgroup.subtree_control").write_text("+cpu")
        group.mkdir()
        (group / name).write_text(text)
    except OSError as error:
        pytest.skip(f"this user cannot limit a host's CPU by a control group: {error}")
    try:
        # the kernel reads the numbers as those of the writer's own namespace
        host.run(f"for pid in /proc/[0-9]*; do echo ${{pid#/proc/}} > {group}/cgroup.procs; done", check=False)
        yield
    finally:
        while pids := (group / "cgroup.procs").read_text().split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    (own / "cgroup.procs").write_text(pid)
        group.rmdir()


def _find_own_group(*, is_unified: bool) -> str:
    """Return the control group of this process, relative to its hierarchy."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if (not controllers) if is_unified else ("cpu" in controllers.split(",")):
            return path.lstrip("/")
    raise AssertionError("this process is in no control group")


@contextlib.contextmanager
def filling_disk(host: Host) -> Iterator[None]:
    """Fill a host's temporary folder to its last byte, within the context."""
    full = TEMPORARY / "full"
    size = host.run(f"df --output=size -B1 {TEMPORARY} | tail -1").stdout.strip()
    # a smaller disk, so that the file that fills it takes little memory
    host.run(
        f"used=$(df --output=used -B1 {TEMPORARY} | tail -1); mount -o remount,size=$((used + 1000000)) {TEMPORARY}; "
        f"dd if=/dev/zero of={full} bs=4096 2> /dev/null; ! echo more > {TEMPORARY}/more"
    )
    try:
        yield
    finally:
        host.run(f"rm -f {full} {TEMPORARY}/more; mount -o remount,size={size} {TEMPORARY}")
