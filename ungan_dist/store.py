"""Store results on disk so that a reader sees all of a result or nothing.

A result is a set of files and a marker with their SHA-256. Files are written first, the marker last. A result counts
only if its marker exists and every file has the recorded hash. Arrays are ``.npy`` without pickle.

Markers and other records are canonical JSON with a hash of their own content, so that no changed digit passes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from ungan_dist.files import hash_bytes, hash_file, hash_json, make_private_folder, open_private

if TYPE_CHECKING:
    import numpy as np


class CorruptResult(Exception):
    """A committed file differs from its marker, or a record from its own hash."""

    exit_code = 1


def write_file(path: Path, content: bytes | Iterable[bytes | memoryview]) -> str:
    """Write a file atomically: to a temporary file, fsync, rename, fsync of the folder.

    New files and folders are readable by their owner alone, see ``files.make_private_folder``.

    Args:
        path: The file to write.
        content: The whole content, or its parts, of which one is in memory at a time.

    Returns:
        SHA-256 of the content.
    """
    digest = hashlib.sha256()
    make_private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb", opener=open_private) as file:
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
    write_file(path, _encode(value))


def read_json(path: Path) -> Any:
    """Read plain data from a JSON file; damaged or too deeply nested content raises ValueError."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error


def _encode(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data with a hash over it, which ``read_record`` compares."""
    write_file(path, encode_record(content))


def encode_record(content: Mapping[str, Any]) -> bytes:
    """Encode plain data with a hash over it, as ``parse_record`` decodes it."""
    plain = json.loads(_encode(content))
    return _encode(plain | {_HASH: hash_json(plain)})


def read_record(
    path: Path, *, unhashed: Collection[str] | None = None, optional: Collection[str] = ()
) -> dict[str, Any]:
    """Read a record that was written by ``write_record``, without its hash.

    Args:
        path: The record.
        unhashed: Keys of a record from before records had a hash; by default such a record is refused.
        optional: Further keys that such a record may have.

    Raises:
        OSError: It cannot be read, for example because it does not exist.
        CorruptResult: It is not what was written.
    """
    return parse_record(path.read_bytes(), path, unhashed=unhashed, optional=optional)


def parse_record(
    content: bytes, name: str | Path, *, unhashed: Collection[str] | None = None, optional: Collection[str] = ()
) -> dict[str, Any]:
    """Decode and check the bytes of a record, as ``read_record`` does; the name is for messages.

    Raises:
        CorruptResult: It is not what was written.
    """
    try:
        record = json.loads(content)
        # not one byte may differ from what is written for this value
        is_intact = isinstance(record, dict) and _encode(record) == content
    except (ValueError, RecursionError) as error:
        raise CorruptResult(f"{name} is damaged: {error}") from error
    if is_intact and _HASH in record:
        is_intact = record.pop(_HASH) == hash_json(record)
    elif is_intact:
        is_intact = unhashed is not None and set(unhashed) <= set(record) <= {*unhashed, *optional}
    if not is_intact:
        raise CorruptResult(f"{name} is damaged: it differs from what was written")
    return record


_HASH = "sha256"
"""Key of a record's hash over its other keys."""
_MARKER = ("id", "files", "facts")


def read_marker(path: Path) -> dict[str, Any]:
    """Read a marker, without a look at its files.

    Returns:
        Its ``id``, its ``files`` (name → SHA-256) and its ``facts``.

    Raises:
        OSError: It cannot be read, for example because it does not exist.
        CorruptResult: It is not what was written.
    """
    return parse_marker(path.read_bytes(), path)


def parse_marker(content: bytes, name: str | Path) -> dict[str, Any]:
    """Decode and check the bytes of a marker; the name is for messages.

    Raises:
        CorruptResult: It is not what was written.
    """
    record = parse_record(content, name, unhashed=_MARKER)
    id, files, facts = (record.get(key) for key in _MARKER)
    is_marker = len(record) == len(_MARKER) and isinstance(id, str) and isinstance(facts, dict)
    if not (is_marker and isinstance(files, dict) and all(map(_is_below, files)) and _are_texts(files.values())):
        raise CorruptResult(f"{name} is damaged: it is not the marker of a result")
    return record


def _is_below(name: str) -> bool:
    """Whether a name stays below its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


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
    write_record(root / marker, {"id": id, "files": hashes, "facts": facts or {}})


def committed(root: Path, marker: str, *, id: str, files: Collection[str] = ()) -> dict[str, Any] | None:
    """Return the facts of an intact result, or ``None`` if it is absent, altered or has another id.

    Args:
        root: The folder that all names are relative to.
        marker: Name of the marker file.
        id: Id that the result must have.
        files: Names that the marker must list.
    """
    try:
        record = read_marker(root / marker)
        hashes = record["files"]
        intact = record["id"] == id and set(files) <= set(hashes)
        intact = intact and all(hash_file(root / name) == expected for name, expected in hashes.items())
    except (CorruptResult, ValueError):
        return None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return None
    return record["facts"] if intact else None


_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors of a path that leads to no file."""


def condition(
    root: Path, marker: str, *, id: str, files: Collection[str] = ()
) -> Literal["intact", "absent", "corrupt"]:
    """Classify a result as intact, absent (or of another id), or corrupt under this id."""
    if committed(root, marker, id=id, files=files) is not None:
        return "intact"
    try:
        return "corrupt" if read_marker(root / marker)["id"] == id else "absent"
    except CorruptResult:
        return "corrupt"
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return "corrupt" if os.path.lexists(root / marker) else "absent"


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
    except MemoryError:
        if not mapped:
            read_array(path, mapped=True)  # raises CorruptResult if the file is shorter than its header states
        raise


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
    make_private_folder(folder)
    with open(folder / ".lock", "a", opener=open_private) as file:
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
