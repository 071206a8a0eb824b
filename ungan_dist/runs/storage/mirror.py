"""Results in object storage: a local working folder, and its copy on any pyarrow filesystem (S3, Google's, a mount).

The commit protocol is that of the local store: a result's files first, its marker with their hashes last. What comes
back is hashed before its marker is written here, so a damaged or half-written result is one that is not there.

No lock is held on object storage: it has none that a dead driver would let go of. Two drivers on one run cost work
twice and lose nothing, since the same unit commits the same files. Within one machine the working folder's lock holds.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import pyarrow
from pyarrow import fs

from ungan_dist import store
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.files import cache_folder, hash_bytes, hash_file
from ungan_dist.urls import join_url, refuse_credentials, trim

_STORES = ("s3", "gcs", "abfs")
"""Object storage proper: without folders, and an object is seen when it is whole."""
_WITH_RENAME = ("local", "hdfs")
"""Filesystems on which a file is seen before it is whole, unless it is renamed into place."""


def working_folder(url: str, cache: str | None = None) -> Path:
    """Where the files behind a URL lie on this machine.

    Args:
        url: of an output.
        cache: folder of all working folders; none: ``~/.cache/ungan_dist``.
    """
    parent = cache_folder() if cache is None else Path(cache)
    return parent.resolve() / hash_bytes(trim(url).encode())[:16]


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A folder on this machine and its copy elsewhere; names are relative to both."""

    url: str
    """What messages call the copy."""
    filesystem: fs.FileSystem
    root: str
    """Path of the copy in its filesystem."""
    folder: Path

    def push(self, place: str, marker: str) -> None:
        """Copies a result that is committed here, unless it lies there already.

        Args:
            place: folder that the marker and the names in it are relative to; empty: the root.
            marker: name of the marker file.

        Raises:
            Unfinished: the storage refuses it.
            CorruptResult: it is not what was committed here.
        """
        here = self.folder / place
        content = (here / marker).read_bytes()
        hashes: dict[str, str] = json.loads(content)["files"]
        if self._read(_join(place, marker)) == content and self._sizes_agree(place, hashes):
            return
        for name, expected in hashes.items():
            data = (here / name).read_bytes()
            if hash_bytes(data) != expected:
                raise store.CorruptResult(f"{here / name} is not what {here / marker} says: run the audit again")
            self._write(_join(place, name), data)
        self._write(_join(place, marker), content)

    def pull(
        self, place: str, marker: str, *, id: str | None = None, sizes: Mapping[str, int] | None = None
    ) -> Literal["intact", "absent", "damaged"]:
        """Brings a result here, if all of it is what its marker says; what lies here intact is not fetched again.

        Args:
            place: folder that the marker and the names in it are relative to; empty: the root.
            marker: name of the marker file.
            id: of the result wanted; none: whichever is there.
            sizes: sizes of the files there, in bytes, by their names in the place, where they are known.

        Raises:
            Unfinished: the storage cannot be read.
        """
        content = self._read(_join(place, marker))
        if content is None:
            return "absent"
        here = self.folder / place
        try:
            record = json.loads(content)
            hashes = {_safe(name): str(expected) for name, expected in record["files"].items()}
            if id is not None and record["id"] != id:
                return "absent"
        except (ValueError, KeyError, TypeError, AttributeError):
            return "damaged"
        if _holds(here, hashes):
            if not self._sizes_agree(place, hashes, sizes):
                return "damaged"
        else:
            files = {name: self._read(_join(place, name)) for name in hashes}
            # all of it is looked at before any of it is written
            for name, data in files.items():
                if data is None or hash_bytes(data) != hashes[name]:
                    return "damaged"
            for name, data in files.items():
                assert data is not None
                store.write_file(here / name, data)
        if not (here / marker).is_file() or (here / marker).read_bytes() != content:
            store.write_file(here / marker, content)
        return "intact"

    def discard(self, place: str, marker: str) -> None:
        """Takes back a result that was found damaged: without its marker it is none, and the next push writes it anew.

        Raises:
            Unfinished: the storage refuses it.
        """
        name = _join(place, marker)
        with self._reached("delete", name), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(_join(self.root, name))

    def push_file(self, name: str) -> None:
        """Copies one file that changes in the course of a run, if it is here."""
        path = self.folder / name
        if path.is_file():
            self._write(name, path.read_bytes())

    def pull_json(self, name: str) -> bool:
        """Brings one JSON file here; whether it was there and whole."""
        content = self._read(name)
        try:
            json.loads(content or b"")
        except ValueError:
            return False
        assert content is not None
        store.write_file(self.folder / name, content)
        return True

    def sizes(self, place: str) -> dict[str, int]:
        """Files below a folder there: name in it → bytes."""
        base = _join(self.root, place)
        with self._reached("list", place):
            found = self.filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        prefix = f"{base}/" if base else ""
        return {info.path.removeprefix(prefix): info.size for info in found if info.type == fs.FileType.File}

    def try_out(self) -> None:
        """Writes, reads and deletes a small object, as a run does, and leaves nothing behind.

        Raises:
            OSError, pyarrow.ArrowException: the storage refuses it.
        """
        name, content = f".doctor.{secrets.token_hex(8)}", secrets.token_bytes(64)
        made = self._absent_folder()
        try:
            self._write(name, content)
            if self._read(name) != content:
                raise OSError("what was written does not come back")
            self.filesystem.delete_file(_join(self.root, name))
        except Unfinished as error:
            raise (error.__cause__ or error) from None
        finally:
            if made is not None:
                with contextlib.suppress(OSError):
                    there = self.filesystem.get_file_info(fs.FileSelector(made, recursive=True))
                    # somebody else may have begun to write there
                    if not any(info.type == fs.FileType.File for info in there):
                        self.filesystem.delete_dir(made)

    def _absent_folder(self) -> str | None:
        """The highest folder at or above the root that is not there; S3 too leaves one where an object is deleted."""
        parts = self.root.split("/")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            if path and self.filesystem.get_file_info(path).type == fs.FileType.NotFound:
                return path
        return None

    def _sizes_agree(self, place: str, hashes: Mapping[str, str], sizes: Mapping[str, int] | None = None) -> bool:
        here = self.folder / place
        if sizes is None:
            with self._reached("look at", place):
                found = self.filesystem.get_file_info([_join(self.root, place, name) for name in hashes])
            sizes = {name: info.size for name, info in zip(hashes, found, strict=True) if info.size is not None}
        return all(sizes.get(name) == (here / name).stat().st_size for name in hashes)

    def _read(self, name: str) -> bytes | None:
        with self._reached("read", name):
            try:
                with self.filesystem.open_input_stream(_join(self.root, name), compression=None) as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

    def _write(self, name: str, content: bytes) -> None:
        path = _join(self.root, name)
        with self._reached("write", name):
            kind = self.filesystem.type_name.removeprefix("py::")
            if kind not in _STORES:
                self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            if kind not in _WITH_RENAME:
                self._put(path, content)
                return
            aside = f"{path}.{secrets.token_hex(4)}.tmp"
            try:
                self._put(aside, content)
                self.filesystem.move(aside, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.filesystem.delete_file(aside)
                raise

    def _put(self, path: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(path, compression=None) as stream:
            stream.write(content)

    @contextlib.contextmanager
    def _reached(self, act: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            raise Unfinished(
                f"cannot {act} {join_url(self.url, name)}: {error}. What was committed is kept: run the same command "
                f"again when the storage answers"
            ) from error


def connect(url: str, *, cache: str | None = None, folder: Path | None = None) -> Mirror:
    """Opens the storage behind a URL; nothing is written anywhere.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``file:///folder``, with pyarrow's options as its query.
        cache: folder of all working folders on this machine; none: ``~/.cache/ungan_dist``.
        folder: the working folder itself, in place of one in the cache.

    Raises:
        ConfigError: no such bucket, no access, no network, or a URL that pyarrow does not know.
    """
    refuse_credentials(url)
    try:
        filesystem, root = fs.FileSystem.from_uri(_with_patience(url))
        bucket = root.split("/")[0]
        if filesystem.type_name in _STORES:
            if not bucket:
                raise FileNotFoundError("it names no bucket")
            if filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
                raise FileNotFoundError(f"there is no bucket {bucket!r}")
    except (OSError, ValueError, NotImplementedError, pyarrow.ArrowException) as error:
        raise ConfigError(
            f"cannot use the storage {url}: {error}. Check the bucket's name, that this machine reaches it, and the "
            f"credentials in the environment (S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the "
            f"machine's role; Google: GOOGLE_APPLICATION_CREDENTIALS or the machine's account)"
        ) from error
    return Mirror(
        url=trim(url), filesystem=filesystem, root=root.rstrip("/"), folder=folder or working_folder(url, cache)
    )


def _with_patience(url: str) -> str:
    """Google's client would try for a quarter of an hour before it says that nothing answers."""
    parts = urlsplit(url)
    if parts.scheme not in ("gs", "gcs") or "retry_limit_seconds" in parts.query:
        return url
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}retry_limit_seconds=20"))


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _safe(name: Any) -> str:
    """A name from a marker: it stays below its folder, whoever wrote it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} leads out of its folder")
    return str(path)


def _holds(folder: Path, hashes: Mapping[str, str]) -> bool:
    try:
        return all(hash_file(folder / name) == expected for name, expected in hashes.items())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
