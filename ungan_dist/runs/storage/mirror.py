"""Synchronise a working folder with object storage on any pyarrow filesystem (S3, Google's, a mount).

As in the local store, a result's files are written first and its marker last. Fetched files are hashed before the
marker is written here, so a damaged or incomplete result counts as absent.

Object storage has no locks, so two drivers on one run duplicate work. They lose nothing, because equal units commit
equal files. On one machine the lock of the working folder holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import pyarrow
from pyarrow import fs

from ungan_dist import store
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.files import cache_folder, hash_bytes, hash_file, make_private_folder, open_private
from ungan_dist.urls import join_url, refuse_credentials, trim

_STORES = ("s3", "gcs", "abfs")
"""Object storage: no folders, and objects appear only when complete."""
_WITH_RENAME = ("local", "hdfs")
"""Filesystems that show incomplete files, so that files are renamed into place."""


def working_folder(url: str, cache: str | None = None) -> Path:
    """Return the working folder of a URL on this machine.

    Args:
        url: The URL of an output.
        cache: Folder of all working folders; defaults to ``~/.cache/ungan_dist``.
    """
    parent = cache_folder() if cache is None else Path(cache)
    return parent.resolve() / hash_bytes(trim(url).encode())[:16]


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A folder on this machine and its copy in storage; names are relative to both."""

    url: str
    """URL of the copy, for messages."""
    filesystem: fs.FileSystem
    root: str
    """Path of the copy in its filesystem."""
    folder: Path
    known: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)
    """Markers as this process last saw them in the storage: name → SHA-256, or None if absent."""

    def push(self, place: str, marker: str) -> None:
        """Copy a committed result to the storage, unless it is there already.

        The storage is asked only about a marker that this process has not seen yet.

        Args:
            place: Folder of the marker and its names; empty for the root.
            marker: Name of the marker file.

        Raises:
            Unfinished: The storage refuses it.
            CorruptResult: A file differs from its marker.
        """
        here = self.folder / place
        content = (here / marker).read_bytes()
        hashes: dict[str, str] = store.parse_marker(content, here / marker)["files"]
        known_as, own_hash = join_names(place, marker), hash_bytes(content)
        if known_as not in self.known:
            is_there = self.read(known_as) == content and self._sizes_agree(place, hashes)
        else:
            is_there = self.known[known_as] == own_hash
        if is_there:
            self.known[known_as] = own_hash
            return
        self.known.pop(known_as, None)
        for name, expected in hashes.items():
            data = (here / name).read_bytes()
            if hash_bytes(data) != expected:
                raise store.CorruptResult(f"{here / name} differs from its marker {here / marker}: run the audit again")
            self.write(join_names(place, name), data)
        self.write(known_as, content)
        self.known[known_as] = own_hash

    def pull(
        self, place: str, marker: str, *, id: str | None = None, sizes: Mapping[str, int] | None = None
    ) -> Literal["intact", "absent", "damaged"]:
        """Fetch a result if all of it matches its marker; intact local files are not fetched again.

        Args:
            place: Folder of the marker and its names; empty for the root.
            marker: Name of the marker file.
            id: Id of the result; defaults to any.
            sizes: Sizes in bytes of the files in storage, by name; defaults to asking the storage.

        Raises:
            Unfinished: The storage cannot be read.
        """
        known_as = join_names(place, marker)
        self.known.pop(known_as, None)
        content = self.read(known_as)
        if content is None:
            self.known[known_as] = None
            return "absent"
        here = self.folder / place
        try:
            record = store.parse_marker(content, marker)
        except store.CorruptResult:
            return "damaged"
        hashes: dict[str, str] = record["files"]
        if id is not None and record["id"] != id:
            return "absent"
        if holds(here, hashes):
            if not self._sizes_agree(place, hashes, sizes):
                return "damaged"
        else:
            files = {name: self.read(join_names(place, name)) for name in hashes}
            # check everything before writing anything
            for name, data in files.items():
                if data is None or hash_bytes(data) != hashes[name]:
                    return "damaged"
            for name, data in files.items():
                assert data is not None
                store.write_file(here / name, data)
        if not (here / marker).is_file() or (here / marker).read_bytes() != content:
            store.write_file(here / marker, content)
        self.known[known_as] = hash_bytes(content)
        return "intact"

    def discard(self, place: str, marker: str) -> None:
        """Remove the marker of a damaged result, so that the next push writes it again.

        Raises:
            Unfinished: The storage refuses it.
        """
        name = join_names(place, marker)
        with self._explain_errors("delete", name), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(join_names(self.root, name))
        self.known[name] = None

    def push_file(self, name: str) -> None:
        """Copy one file that changes during a run, if it exists here."""
        path = self.folder / name
        if path.is_file():
            self.write(name, path.read_bytes())

    def pull_json(self, name: str) -> bool:
        """Fetch one JSON file and return whether it exists and is valid."""
        content = self.read(name)
        try:
            json.loads(content or b"")
        except ValueError:
            return False
        assert content is not None
        store.write_file(self.folder / name, content)
        return True

    def sizes(self, place: str) -> dict[str, int]:
        """List the files below a folder in storage: name → size in bytes."""
        base = join_names(self.root, place)
        with self._explain_errors("list", place):
            found = self.filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
        prefix = f"{base}/" if base else ""
        return {info.path.removeprefix(prefix): info.size for info in found if info.type == fs.FileType.File}

    def try_out(self) -> None:
        """Write, read and delete a small object, and leave nothing behind.

        Raises:
            OSError, pyarrow.ArrowException: The storage refuses it.
        """
        name, content = f".doctor.{secrets.token_hex(8)}", secrets.token_bytes(64)
        made = self._absent_folder()
        try:
            self.write(name, content)
            if self.read(name) != content:
                raise OSError("the object that was written cannot be read back")
            self.filesystem.delete_file(join_names(self.root, name))
        except Unfinished as error:
            raise (error.__cause__ or error) from None
        finally:
            if made is not None:
                with contextlib.suppress(OSError):
                    there = self.filesystem.get_file_info(fs.FileSelector(made, recursive=True))
                    # another process may have begun to write there
                    if not any(info.type == fs.FileType.File for info in there):
                        self.filesystem.delete_dir(made)

    def _absent_folder(self) -> str | None:
        """Find the highest absent folder at or above the root; S3 too leaves a folder after a deletion."""
        parts = self.root.split("/")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            if path and self.filesystem.get_file_info(path).type == fs.FileType.NotFound:
                return path
        return None

    def _sizes_agree(self, place: str, hashes: Mapping[str, str], sizes: Mapping[str, int] | None = None) -> bool:
        here = self.folder / place
        if sizes is None:
            with self._explain_errors("examine", place):
                found = self.filesystem.get_file_info([join_names(self.root, place, name) for name in hashes])
            sizes = {name: info.size for name, info in zip(hashes, found, strict=True) if info.size is not None}
        return all(sizes.get(name) == (here / name).stat().st_size for name in hashes)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file in storage, or None if it is absent."""
        with self._explain_errors("read", name):
            try:
                with self.filesystem.open_input_stream(join_names(self.root, name), compression=None) as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file in storage: whole, or not at all."""
        path = join_names(self.root, name)
        with self._explain_errors("write", name):
            kind = self.filesystem.type_name.removeprefix("py::")
            if kind == "local":
                make_private_folder(Path(path).parent)
            if kind not in _STORES:
                self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            if kind not in _WITH_RENAME:
                self._put(path, content)
                return
            aside = f"{path}.{secrets.token_hex(4)}.tmp"
            try:
                if kind == "local":
                    os.close(open_private(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
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
    def _explain_errors(self, act: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            raise Unfinished(
                f"cannot {act} {join_url(self.url, name)}: {error}. Committed results are kept: run the same "
                f"command again when the storage answers"
            ) from error


def connect(url: str, *, cache: str | None = None, folder: Path | None = None) -> Mirror:
    """Open the storage behind a URL; nothing is written.

    Args:
        url: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``file:///folder``, with pyarrow's options as its query.
        cache: Folder of all working folders on this machine; defaults to ``~/.cache/ungan_dist``.
        folder: The working folder; defaults to one in the cache.

    Raises:
        ConfigError: The bucket does not exist, cannot be reached or accessed, or pyarrow does not support the URL.
    """
    refuse_credentials(url)
    try:
        filesystem, root = fs.FileSystem.from_uri(_limit_retries(url))
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


def _limit_retries(url: str) -> str:
    """Limit the retries of Google's client, which lasts 15 minutes by default."""
    parts = urlsplit(url)
    if parts.scheme not in ("gs", "gcs") or "retry_limit_seconds" in parts.query:
        return url
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}retry_limit_seconds=20"))


def join_names(*parts: str) -> str:
    """Join names below a folder; empty ones are left out."""
    return "/".join(part for part in parts if part)


def holds(folder: Path, hashes: Mapping[str, str]) -> bool:
    try:
        return all(hash_file(folder / name) == expected for name, expected in hashes.items())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
