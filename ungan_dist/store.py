"""Store results on disk so that a reader sees all of a result or nothing.

A result is a set of files and a marker with their SHA-256. Files are written first, the marker last. A result counts
only if its marker exists and every file has the recorded hash. Arrays are ``.npy`` without pickle.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ungan_dist.files import hash_bytes, hash_file

if TYPE_CHECKING:
    import numpy as np


class CorruptResult(Exception):
    """A committed file differs from its marker."""


def write_file(path: Path, content: bytes | Iterable[bytes | memoryview]) -> str:
    """Write a file atomically: to a temporary file, fsync, rename, fsync of the folder.

    Args:
        path: The file to write.
        content: The whole content, or its parts, of which one is in memory at a time.

    Returns:
        SHA-256 of the content.
    """
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            for part in [content] if isinstance(content, bytes) else content:
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write plain data as canonical, indented JSON; NaN and infinities raise ValueError."""
    write_file(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read plain data from a JSON file; damaged or too deeply nested content raises ValueError."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error


def array_bytes(array: np.ndarray) -> bytes:
    """Encode an array in NumPy's format, without pickle."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def commit(
    root: Path,
    marker: str,
    *,
    id: str,
    files: Mapping[str, bytes | Iterable[bytes | memoryview]],
    facts: dict[str, Any] | None = None,
) -> None:
    """Commit a result: its files first, the marker with their hashes last.

    Args:
        root: The folder that all names are relative to.
        marker: Name of the marker file.
        id: Hash of everything that determines the result.
        files: Name → content, as ``write_file`` takes it.
        facts: Plain data to keep in the marker.
    """
    hashes = {name: write_file(root / name, content) for name, content in files.items()}
    write_json(root / marker, {"id": id, "files": hashes, "facts": facts or {}})


def committed(root: Path, marker: str, *, id: str) -> dict[str, Any] | None:
    """Return the facts of an intact result, or ``None`` if it is absent, altered or has another id."""
    try:
        record = read_json(root / marker)
        facts = record["facts"]
        intact = record["id"] == id and all(
            hash_file(root / name) == expected for name, expected in record["files"].items()
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if intact else None


def condition(root: Path, marker: str, *, id: str) -> Literal["intact", "absent", "corrupt"]:
    """Classify a result as intact, absent (or of another id), or corrupt under this id."""
    if committed(root, marker, id=id) is not None:
        return "intact"
    try:
        return "corrupt" if read_json(root / marker)["id"] == id else "absent"
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except (ValueError, KeyError, TypeError):
        return "corrupt"


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Read an array from a committed file without unpickling.

    Raises:
        CorruptResult: The file holds no array in NumPy's format.
    """
    import numpy as np

    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptResult(f"{path} is not a readable array ({error}): delete it and run again") from error


def read_arrays(paths: Sequence[Path]) -> np.ndarray:
    """Concatenate the arrays of several files along their first axis, holding one of them twice at a time.

    Raises:
        CorruptResult: The arrays differ in type or shape, or cannot be read.
    """
    import numpy as np

    shapes = [(mapped.dtype, mapped.shape) for mapped in (read_array(path, mapped=True) for path in paths)]
    dtype, (_, *rest) = shapes[0]
    if {(dtype, tuple(shape[1:])) for dtype, shape in shapes} != {(dtype, tuple(rest))}:
        raise CorruptResult(f"{paths[0]} and the {len(paths) - 1} other files do not hold arrays of one shape")
    whole = np.empty((sum(shape[0] for _, shape in shapes), *rest), dtype=dtype)
    row = 0
    for path, (_, (length, *_)) in zip(paths, shapes, strict=True):
        whole[row : row + length] = read_array(path)
        row += length
    return whole


def remove_temporary_files(folder: Path, *, include_live_pids: bool = False) -> None:
    """Remove temporary files of ``write_file`` that dead processes left.

    Args:
        folder: Searched with everything below it.
        include_live_pids: Also remove files whose process id is alive, here or on another machine.
    """
    for path in folder.rglob(".*.tmp"):
        pid = path.name.split(".")[-3]
        if pid.isdecimal() and (include_live_pids or not Path(f"/proc/{pid}").exists()):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a run folder for one driver; the operating system releases the lock when the driver dies.

    Raises:
        BlockingIOError: Another driver holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"another process is at work on {folder}: wait for it, or choose another --execution.run-name"
            ) from error
        yield


def is_locked(folder: Path) -> bool:
    """Return whether a driver holds the lock of a run folder."""
    try:
        with (folder / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def hash_files(files: Mapping[str, bytes]) -> str:
    """Return one hash over several named contents."""
    hashes = {name: hash_bytes(content) for name, content in files.items()}
    return hash_bytes(json.dumps(hashes, sort_keys=True).encode())
