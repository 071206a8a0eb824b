"""Processes as listed by the kernel."""

from __future__ import annotations

from pathlib import Path


def workers(pid: int) -> list[int]:
    """List the pool processes that a process has started and not yet reaped."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            words = stat.with_name("cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and b"worker_process.py" in words:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Return whether a process is running; a zombie is not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
