"""Summarise the results in object storage, so that a run continues with a few requests in place of one a result.

A summary is an index of up to 1,000 markers, and a pack with the small files of these results. Beside them, each result
stays in the storage as its files and its marker.

A summary is a copy, and decides nothing. A result counts only if a listing of the storage has all its files in their
sizes, and if each of its files has the hash in its marker. A lost or damaged summary costs requests, and no result.
Whoever removes a damaged result removes the summaries of its place too, so that none outlives a result. A driver that
is killed leaves results without a summary, which the next one reads one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from ungan_dist import store
from ungan_dist.files import hash_bytes
from ungan_dist.runs.storage.mirror import Mirror, holds, join_names

FOLDER = "summaries"
MAX_RESULTS = 1000
"""Results of a summary: as many as a listing of S3 has objects on a page."""
MAX_BYTES = 32 * 2**20
"""Size of a pack after which another one begins."""
MAX_FILE_BYTES = 2**20
"""Largest file in a pack. The transfer of a larger one takes longer than a request."""
_NUM_READERS = 4
"""Summaries read at once; each may hold its pack in memory."""


class Summaries:
    """Collects results that are whole in the storage and on this machine, and writes summaries of them."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._waiting: dict[str, list[str]] = {}
        self._num_bytes: dict[str, int] = {}

    def add(self, place: str, marker: str) -> None:
        """Add a result, and write a summary if there are enough.

        Args:
            place: Folder of the marker and its names; empty for the root.
            marker: Name of the marker file.

        Raises:
            Unfinished: The storage refuses a summary.
        """
        here = self._mirror.folder / place
        sizes = [(here / name).stat().st_size for name in store.read_marker(here / marker)["files"]]
        self._waiting.setdefault(place, []).append(marker)
        small = sum(size for size in sizes if size <= MAX_FILE_BYTES)
        self._num_bytes[place] = self._num_bytes.get(place, 0) + small
        if len(self._waiting[place]) >= MAX_RESULTS or self._num_bytes[place] >= MAX_BYTES:
            self._write(place)

    def flush(self) -> None:
        """Write summaries of the results that are left.

        Raises:
            Unfinished: The storage refuses a summary.
        """
        for place in list(self._waiting):
            self._write(place)

    def _write(self, place: str) -> None:
        """Write a pack, and its index last."""
        results: dict[str, Any] = {}
        pack = bytearray()
        for marker in self._waiting.pop(place):
            result, files = _summarise(self._mirror.folder / place, marker, start=len(pack))
            results[marker] = result
            pack += files
        self._num_bytes[place] = 0
        index = store.encode_record({"results": results})
        name = f"{_folder_of(place)}/{hash_bytes(index)[:32]}"
        if pack:
            self._mirror.write(f"{name}.pack", bytes(pack))
        self._mirror.write(f"{name}.json", index)


def _summarise(here: Path, marker: str, *, start: int) -> tuple[dict[str, Any], bytes]:
    """Return the entry of a result in an index, and its small files, which stand in the pack from ``start`` on."""
    content = (here / marker).read_bytes()
    sizes: dict[str, int] = {}
    offsets: dict[str, int] = {}
    small = bytearray()
    for name in store.parse_marker(content, here / marker)["files"]:
        sizes[name] = (here / name).stat().st_size
        if sizes[name] <= MAX_FILE_BYTES:
            offsets[name] = start + len(small)
            small += (here / name).read_bytes()
    return {"marker": content.decode(), "sizes": sizes, "offsets": offsets}, bytes(small)


def pull_summarised(mirror: Mirror, place: str, listing: Mapping[str, int], wanted: Mapping[str, str]) -> set[str]:
    """Fetch results by their summaries, as far as these have them.

    Args:
        mirror: The storage.
        place: Folder of the markers and their names; empty for the root.
        listing: Sizes in bytes of the files of the place in storage, by name.
        wanted: Marker → id of each wanted result.

    Returns:
        The markers of the results that are intact in the storage's listing and on this machine now.

    Raises:
        Unfinished: The storage cannot be read.
    """
    if wanted.keys().isdisjoint(listing):
        return set()
    folder = PurePosixPath(_folder_of(place)).relative_to(place or ".")
    names = [name for name in listing if PurePosixPath(name).parent == folder and name.endswith(".json")]

    def pull(name: str) -> set[str]:
        summary = _Summary(mirror, place, name.removesuffix(".json"))
        return {marker for marker in wanted.keys() & summary.results if summary.pull(marker, wanted[marker], listing)}

    with ThreadPoolExecutor(_NUM_READERS) as pool:
        return set().union(*pool.map(pull, names))


class _Summary:
    """One summary in the storage, whose pack is read when it is needed."""

    def __init__(self, mirror: Mirror, place: str, name: str) -> None:
        self._mirror, self._place, self._name = mirror, place, name
        self._pack: bytes | None = None
        content = mirror.read(join_names(place, f"{name}.json"))
        try:
            found = store.parse_record(content or b"", name)["results"]
            self.results: dict[str, Any] = dict(found)
        except (store.CorruptResult, KeyError, TypeError, ValueError):
            self.results = {}

    def pull(self, marker: str, id: str, listing: Mapping[str, int]) -> bool:
        """Fetch a result, and return whether it is intact here and has its sizes in the listing."""
        try:
            result = self.results[marker]
            content, sizes, offsets = result["marker"].encode(), dict(result["sizes"]), dict(result["offsets"])
            record = store.parse_marker(content, marker)
            hashes: dict[str, str] = record["files"]
            listed = {name: listing.get(name) for name in (marker, *hashes)}
            if record["id"] != id or listed != {name: sizes[name] for name in hashes} | {marker: len(content)}:
                return False
            here = self._mirror.folder / self._place
            if not holds(here, hashes):
                if not offsets.keys() >= hashes.keys():
                    return False
                files = {name: self._cut(offsets[name], sizes[name]) for name in hashes}
                if any(hash_bytes(data) != hashes[name] for name, data in files.items()):
                    return False
                for name, data in files.items():
                    store.write_file(here / name, data)
        except (store.CorruptResult, KeyError, TypeError, ValueError, AttributeError):
            return False  # not written by this software, or damaged: the result is read by itself
        if not (here / marker).is_file() or (here / marker).read_bytes() != content:
            store.write_file(here / marker, content)
        self._mirror.known[join_names(self._place, marker)] = hash_bytes(content)
        return True

    def _cut(self, start: int, size: int) -> bytes:
        if self._pack is None:
            self._pack = self._mirror.read(join_names(self._place, f"{self._name}.pack")) or b""
        return self._pack[start : start + size]


def discard_damaged(mirror: Mirror, place: str, marker: str) -> None:
    """Remove the marker of a damaged result, and all summaries of its place, of which one may hold another copy.

    Args:
        mirror: The storage.
        place: Folder of the marker and its names; empty for the root.
        marker: Name of the marker file.

    Raises:
        Unfinished: The storage refuses it.
    """
    mirror.discard(place, marker)
    folder = _folder_of(place)
    for name in sorted(mirror.sizes(folder), key=lambda name: not name.endswith(".json")):  # an index before its pack
        mirror.discard(folder, name)


def _folder_of(place: str) -> str:
    """Return the folder of the summaries of a place. The results at the root are those of shadow models."""
    return f"{place or 'shadows'}/{FOLDER}"
