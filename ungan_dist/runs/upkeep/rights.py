"""Find what other users of this machine can read of the runs in a folder, such as runs of older versions."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_SHARED_FOLDERS = ("data", "shadows")
_ENTER, _READ = stat.S_IXGRP | stat.S_IXOTH, 2
"""The bits of a folder by which its group and others enter it, and their distance from those that let them read."""


def find_open_entries(output: Path) -> list[Path]:
    """List the runs, ``data`` and ``shadows`` in a folder of which other users can read a file.

    What a closed folder holds cannot be reached. A group may have rights below a folder with the setgid bit
    (``chmod g+ws``), which shares runs with it.

    Args:
        output: The output folder, or the working folder of object storage.
    """
    output = output.resolve()
    if not output.is_dir():
        return []
    whom = _ENTER
    for folder in reversed(output.parents):
        # the group of a folder above may be another one
        whom = whom if folder.stat().st_mode & _ENTER else 0
    entries = [output / name for name in _SHARED_FOLDERS] + sorted(path.parent for path in output.glob("*/config.json"))
    whom = _enter(output, whom)
    return [entry for entry in entries if entry.is_dir() and _has_open_file(entry, whom)]


def _has_open_file(folder: Path, whom: int) -> bool:
    """Whether those who reach a folder can read a file below it."""
    whom = _enter(folder, whom)
    if not whom:
        return False
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if _has_open_file(Path(entry.path), whom):
                return True
        elif entry.is_file(follow_symlinks=False) and entry.stat().st_mode & (whom << _READ):
            return True
    return False


def _enter(folder: Path, whom: int) -> int:
    """Return who of those that reach a folder can enter it, without the group with which it is shared."""
    mode = folder.stat().st_mode
    return whom & mode & ~(stat.S_IXGRP if mode & stat.S_ISGID else 0)
