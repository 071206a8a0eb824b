"""Small helpers for files: hashes, readable sizes and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any


def hash_bytes(content: bytes | memoryview) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the SHA-256 of plain data in canonical JSON, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hash_bytes(text.encode())


def make_private_folder(folder: Path) -> None:
    """Create a folder and its absent parents, for this user alone.

    Below a folder with the setgid bit (``chmod g+ws``), by which a group shares its files, the group gets the rights
    that it has there.
    """
    absent: list[Path] = []
    while not folder.exists():
        absent.append(folder)
        folder = folder.parent
    for one in reversed(absent):
        try:
            one.mkdir(mode=0o700)
        except FileExistsError:  # another process was first
            if not one.is_dir():
                raise
            continue
        if shared := _group_rights(one.parent):
            one.chmod(0o2700 | shared)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def open_private(path: str, flags: int) -> int:
    """Open a file as ``opener`` of ``open``; a new file has this user's rights alone, or those of ``chmod g+ws``."""
    shared = _group_rights(Path(path).parent) & 0o060
    descriptor = os.open(path, flags, 0o600)
    if shared and flags & os.O_CREAT:
        with contextlib.suppress(PermissionError):  # an existing file of another member
            os.fchmod(descriptor, 0o600 | shared)
    return descriptor


def _group_rights(folder: Path) -> int:
    """Return the rights that a folder with the setgid bit gives its group; 0 without the bit."""
    mode = folder.stat().st_mode
    return mode & 0o070 if mode & stat.S_ISGID else 0


def format_bytes(num_bytes: float) -> str:
    """Write a number of bytes in binary units.

    >>> format_bytes(512), format_bytes(1536), format_bytes(3 * 2**30)
    ('512 B', '1.5 KiB', '3.0 GiB')
    """
    if num_bytes < 1024:
        return f"{num_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        num_bytes /= 1024
        if num_bytes < 1024:
            return f"{num_bytes:.1f} {unit}"
    return f"{num_bytes / 1024:,.1f} TiB"


def escape_controls(text: str) -> str:
    """Escape characters that a terminal would obey or hide; line breaks stay.

    >>> escape_controls("red \\x1b[31m")
    'red \\\\x1b[31m'
    """
    return "".join(
        character if character == "\n" or character.isprintable() else ascii(character)[1:-1] for character in text
    )


def cache_folder() -> Path:
    """Return the folder for downloads, self-checks and working copies of object storage.

    Raises:
        FileNotFoundError: the user has no home folder, as in a container, and names no other place.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ungan_dist"
    except RuntimeError as error:
        raise FileNotFoundError("this user has no home folder: set HOME or XDG_CACHE_HOME") from error
