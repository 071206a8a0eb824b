"""Write the data set as one file for FFCV, and compare its hash before FFCV opens it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ungan_dist import store
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.data.ffcv.availability import find_import_error
from ungan_dist.data.ffcv.format import Beton, DamagedBeton, read_tables
from ungan_dist.data.ffcv.write import encode_beton_parts
from ungan_dist.data.manifest import agrees, source_facts
from ungan_dist.data.sources.source import Source
from ungan_dist.errors import ConfigError

LAYOUT = 1
"""Layout version, part of the file's id. It is raised when the same data give a different file."""


@dataclass(frozen=True, kw_only=True)
class BetonLocation:
    """Location of a data set's file, in names relative to the output folder."""

    output: Path
    data_hash: str

    @property
    def name(self) -> str:
        return f"data/{self.data_hash[:16]}/data.beton"

    @property
    def marker(self) -> str:
        return f"data/{self.data_hash[:16]}/beton.json"

    @property
    def id(self) -> str:
        return f"{self.data_hash}-{LAYOUT}"

    @property
    def path(self) -> Path:
        return self.output / self.name


def prepare_beton(source: Source, place: BetonLocation, *, rebuild: bool = False) -> dict[str, Any]:
    """Write a source's file unless it is there intact, and return the facts in its manifest.

    Raises:
        ConfigError: The file was damaged, or a folder has its name.
    """
    _check_no_folder(place)
    condition = store.condition(place.output, place.marker, id=place.id, files=[place.name])
    if condition == "corrupt" and not rebuild:
        raise make_damage_error(place, "it is missing, or its hash is not the one in its manifest")
    if condition == "intact" and not rebuild:
        facts = read_beton(place)[1]
        if not _agrees(facts, source):
            raise make_damage_error(place, "its manifest does not agree with the data")
        return facts
    jpegs = tuple(select_exact_jpegs(source))
    facts = source_facts(source) | {
        "title": source.title,
        "shape": list(source.images.shape),
        "num_jpegs": sum(jpeg is not None for jpeg in jpegs),
    }
    store.remove_temporary_files(place.path.parent)  # files of killed commands are as large as the data
    content = encode_beton_parts(source.images, source.labels.astype(np.int64), jpegs)
    store.commit(place.output, place.marker, id=place.id, files={place.name: content}, facts=facts)
    return facts


def is_beton_intact(source: Source, place: BetonLocation) -> bool:
    """Return whether a source's file is there intact, and its manifest agrees with the source."""
    facts = store.committed(place.output, place.marker, id=place.id, files=[place.name])
    return facts is not None and _agrees(facts, source)


def _agrees(facts: dict[str, Any], source: Source) -> bool:
    return agrees(facts, source) and facts.get("shape") == list(source.images.shape) and "num_jpegs" in facts


def select_exact_jpegs(source: Source) -> Iterator[bytes | None]:
    """Yield each image's JPEG file if FFCV's decoder gives exactly the source's pixels, else None.

    So all loaders read the same pixels. Without FFCV there is no decoder, and pixels are stored.
    """
    if not source.jpegs or find_import_error() is not None:
        return
    from ungan_dist.data.ffcv.operation import decode_jpeg

    for image, jpeg in zip(source.images, source.jpegs, strict=True):
        decoded = np.empty_like(image)
        exact = jpeg is not None and decode_jpeg(np.frombuffer(jpeg, np.uint8), decoded) == 0
        yield jpeg if exact and np.array_equal(decoded, image) else None


def read_beton(place: BetonLocation) -> tuple[Beton, dict[str, Any]]:
    """Read a file's tables and its manifest's facts, after a check of its hash.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    _check_no_folder(place)
    facts = store.committed(place.output, place.marker, id=place.id, files=[place.name])
    if facts is None:
        raise make_damage_error(place, "it is missing, or its hash is not the one in its manifest")
    try:
        beton = read_tables(place.path)
    except (DamagedBeton, OSError) as error:
        raise make_damage_error(place, str(error)) from error
    return beton, facts


def _check_no_folder(place: BetonLocation) -> None:
    if place.path.is_dir():
        raise ConfigError(f"{place.path} is a folder and must be a file: remove it and run again")


def make_damage_error(place: BetonLocation, reason: str) -> ConfigError:
    """Make the error of a file that cannot be used."""
    return ConfigError(
        f"{place.path} cannot be used: {reason}. Write it again with `ungan-dist prepare RECIPE --rebuild` and the "
        f"options of the run"
    )


def open_beton(place: BetonLocation, device: str, *, num_threads: int, fused: tuple[str, ...] = ()) -> Examples:
    """Open the data with FFCV's loader.

    Raises:
        ConfigError: The file is missing or damaged.
        ImportError: FFCV is not installed.
    """
    from ungan_dist.data.ffcv.images import FfcvImages

    beton, facts = read_beton(place)
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    images = FfcvImages(place.path, beton, mean, std, device=torch.device(device), num_threads=num_threads)
    return Examples(
        images=images,
        labels=torch.from_numpy(beton.labels).to(device),
        table=make_normalisation_table(mean, std).to(device),
        num_classes=facts["num_classes"],
        fused=frozenset(fused),
    )
