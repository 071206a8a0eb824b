"""Results on disk: written aside, fsynced, renamed, and valid only once a marker with their hashes lies beside them.

A result is done when its marker exists and every file it names has the hash it says; nothing else counts.
Weights are safetensors, arrays are ``.npy`` read without pickle: opening a result never runs code.
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
from typing import Any, Literal

import numpy as np


class CorruptResult(Exception):
    """A committed file is not what its marker says."""


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, content: bytes | Iterable[bytes | memoryview]) -> str:
    """Writes a file so that a reader sees all of it or none: aside, fsync, rename, fsync of the folder.

    Args:
        content: whole, or in parts of which one is in memory at a time.

    Returns:
        SHA-256 of the content.
    """
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("xb") as file:
            for part in [content] if isinstance(content, bytes) else content:
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes plain data as canonical, indented JSON; NaN and infinities are refused."""
    write_file(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Plain data from a JSON file."""
    return json.loads(path.read_bytes())


def array_bytes(array: np.ndarray) -> bytes:
    """An array in NumPy's format, without pickle."""
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
    """Commits a result: its files first, the marker with their hashes last.

    Args:
        root: folder that all names are relative to.
        marker: name of the marker file.
        id: hash of everything that determines the result.
        files: name → content, as :func:`write_file` takes it.
        facts: plain data kept in the marker.
    """
    hashes = {name: write_file(root / name, content) for name, content in files.items()}
    write_json(root / marker, {"id": id, "files": hashes, "facts": facts or {}})


def committed(root: Path, marker: str, *, id: str) -> dict[str, Any] | None:
    """The facts of a result that is there and intact, or none: absent, another id's, truncated or altered."""
    try:
        record = read_json(root / marker)
        facts = record["facts"]
        intact = record["id"] == id and all(
            file_hash(root / name) == expected for name, expected in record["files"].items()
        )
    except (
        FileNotFoundError,
        NotADirectoryError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ):
        return None
    return facts if intact else None


def condition(root: Path, marker: str, *, id: str) -> Literal["intact", "absent", "corrupt"]:
    """What a result is found to be: absent (or another id's), intact, or not what was committed under this id."""
    if committed(root, marker, id=id) is not None:
        return "intact"
    try:
        return "corrupt" if read_json(root / marker)["id"] == id else "absent"
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except (ValueError, KeyError, TypeError):
        return "corrupt"


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """An array from a committed file; never unpickles.

    Raises:
        CorruptResult: not an array in NumPy's format.
    """
    try:
        return np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptResult(f"{path} is not a readable array ({error}): delete it and run again") from error


def read_arrays(paths: Sequence[Path]) -> np.ndarray:
    """Arrays of several committed files joined along their first axis; one of them in memory twice at a time.

    Raises:
        CorruptResult: not arrays of one kind, or not readable.
    """
    shapes = [(mapped.dtype, mapped.shape) for mapped in (read_array(path, mapped=True) for path in paths)]
    dtype, (_, *rest) = shapes[0]
    if {(dtype, tuple(shape[1:])) for dtype, shape in shapes} != {(dtype, tuple(rest))}:
        raise CorruptResult(f"{paths[0]} and its {len(paths) - 1} companions do not hold arrays of one shape")
    joined = np.empty((sum(shape[0] for _, shape in shapes), *rest), dtype=dtype)
    row = 0
    for path, (_, (length, *_)) in zip(paths, shapes, strict=True):
        joined[row : row + length] = read_array(path)
        row += length
    return joined


def remove_temporary_files(folder: Path, *, include_live_pids: bool = False) -> None:
    """Removes what processes that are dead had written aside and never renamed.

    Args:
        include_live_pids: Also remove files whose process id is alive, here or on another machine.
    """
    for aside in folder.rglob(".*.tmp"):
        pid = aside.name.split(".")[-3]
        if pid.isdecimal() and (include_live_pids or not Path(f"/proc/{pid}").exists()):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Holds a run folder for one driver; the operating system lets go of it when the driver dies.

    Raises:
        BlockingIOError: another driver is at work on the folder.
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
    """Whether a driver is at work on a run folder."""
    try:
        with (folder / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def files_hash(files: dict[str, bytes]) -> str:
    """One hash over named contents."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
