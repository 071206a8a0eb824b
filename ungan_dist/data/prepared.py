"""Write a data set to the output folder, and open it once per process: as arrays, or with FFCV."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ungan_dist import store
from ungan_dist.data.examples import Examples, hold_examples
from ungan_dist.data.ffcv.file import BetonLocation, open_beton, prepare_beton
from ungan_dist.data.loader_choice import Loader, choose_num_threads
from ungan_dist.data.manifest import agrees, source_facts

if TYPE_CHECKING:
    from ungan_dist.data.sources.source import Source


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """Location and hash of a prepared data set: plain values, so that any process can open it."""

    output: str
    """Absolute path of the output folder."""
    data_hash: str
    loader: Loader = "resident"
    num_threads: int | None = None
    """Reading threads of FFCV; defaults to ``choose_num_threads``."""

    @property
    def marker(self) -> str:
        """Path of the marker, relative to the output folder."""
        return f"data/{self.data_hash[:16]}/manifest.json"

    @property
    def images(self) -> str:
        return f"data/{self.data_hash[:16]}/images.npy"

    @property
    def labels(self) -> str:
        return f"data/{self.data_hash[:16]}/labels.npy"

    @property
    def beton(self) -> BetonLocation:
        """Location of FFCV's file."""
        return BetonLocation(output=Path(self.output), data_hash=self.data_hash)


def prepare(source: Source, output: Path, *, loader: Loader = "resident") -> PreparedData:
    """Write a source's data for a loader, unless they are already there intact and their manifest fits the source.

    Raises:
        ConfigError: FFCV's file was damaged.
    """
    prepared = PreparedData(output=str(output), data_hash=source.content_hash, loader=loader)
    if loader == "ffcv":
        prepare_beton(source, prepared.beton)
    elif not is_prepared(source, prepared):
        files = {
            prepared.images: store.array_bytes(source.images),
            prepared.labels: store.array_bytes(source.labels.astype(np.int64)),
        }
        facts = {**source_facts(source), "title": source.title}
        store.commit(output, prepared.marker, id=prepared.data_hash, files=files, facts=facts)
    return prepared


def is_prepared(source: Source, prepared: PreparedData) -> bool:
    """Return whether a source's arrays are there intact, and their manifest agrees with the source."""
    names = (prepared.images, prepared.labels)
    facts = store.committed(Path(prepared.output), prepared.marker, id=prepared.data_hash, files=names)
    return facts is not None and agrees(facts, source)


@functools.lru_cache(maxsize=1)
def open_examples(prepared: PreparedData, device: str, fused: tuple[str, ...] = ()) -> Examples:
    """Open the prepared data on a device, after a check of their hashes.

    Raises:
        CorruptResult: A file is absent or does not have the hash in its manifest.
        ConfigError: FFCV's file is absent or damaged.
    """
    if prepared.loader == "ffcv":
        num_threads = choose_num_threads(prepared.num_threads, device)
        return open_beton(prepared.beton, device, num_threads=num_threads, fused=fused)
    output = Path(prepared.output)
    names = (prepared.images, prepared.labels)
    facts = store.committed(output, prepared.marker, id=prepared.data_hash, files=names)
    if facts is None:
        raise store.CorruptResult(f"{output / prepared.marker} does not match its files: delete it and run again")
    return hold_examples(
        store.read_array(output / prepared.images),
        store.read_array(output / prepared.labels),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        num_classes=facts["num_classes"],
        device=device,
        fused=fused,
    )
