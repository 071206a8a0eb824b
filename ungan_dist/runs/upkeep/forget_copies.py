"""Find a run's forget pictures in prepared data under another hash, for example data normalised differently.

Pictures are compared by their pixels, and features by their values as float64. Pictures of another size and examples
of other features cannot be compared: they are a doubt, unless they are known to be of another source.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ungan_dist import store
from ungan_dist.data.copies import digest_pixels
from ungan_dist.data.ffcv.format import DamagedBeton, read_tables
from ungan_dist.data.sources.features import holds_features
from ungan_dist.runs.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ForgetPictures:
    """The forget sets of all audit seeds, as digests."""

    shape: tuple[int, ...]
    """Height, width, channels; or the features' own."""
    has_features: bool = False
    """Whether they are features and no pictures."""
    pixels: frozenset[bytes]
    jpegs: frozenset[bytes]
    """Of the JPEG files that the pictures came from."""
    all_from_jpegs: bool
    """Whether every picture has its JPEG file."""


def collect_forget_pictures(plan: Plan) -> ForgetPictures:
    """Compute the digests of the pictures that a run is to forget."""
    source = plan.source
    examples = np.unique(np.concatenate([plan.split.pool[draw.forget] for draw in plan.draws]))
    jpegs = [source.jpegs[example] if source.jpegs else None for example in examples]
    return ForgetPictures(
        shape=source.images.shape[1:],
        has_features=source.has_features,
        pixels=frozenset(_digest(source.images[example]) for example in examples),
        jpegs=frozenset(digest_pixels(jpeg) for jpeg in jpegs if jpeg is not None),
        all_from_jpegs=None not in jpegs,
    )


def _digest(example: np.ndarray) -> bytes:
    """Digest pixels; or features, so that float32 and float64 of equal values have equal digests."""
    return digest_pixels((example.astype("<f8") + 0.0 if holds_features(example) else example).tobytes())


def holds_pictures(folder: Path, wanted: ForgetPictures, *, is_other_source: bool = False) -> bool:
    """Return whether a folder of prepared data holds any of the pictures.

    Args:
        folder: The folder.
        wanted: The pictures.
        is_other_source: Whether the data are known to be of another source, so that another shape raises no doubt.

    Raises:
        ValueError: this cannot be decided; the message has the reason.
    """
    images, beton = folder / "images.npy", folder / "data.beton"
    try:
        found = [
            holds(path, wanted) for path, holds in ((images, _array_holds), (beton, _beton_holds)) if path.exists()
        ]
    except (store.CorruptResult, DamagedBeton, OSError) as error:
        raise ValueError(str(error)) from error
    if None in found and not any(found) and not is_other_source:
        raise ValueError(
            "its examples have another shape than this run's, as after another --source.resize or with another column, "
            "and may be of the same people"
        )
    return any(found)


def _array_holds(path: Path, wanted: ForgetPictures) -> bool | None:
    """Return whether an array holds any of the pictures; None if it holds what cannot be compared with them."""
    images = store.read_array(path, mapped=True)
    if images.shape[1:] != wanted.shape or holds_features(images) != wanted.has_features:
        return None
    return any(_digest(image) in wanted.pixels for image in images)


def _beton_holds(path: Path, wanted: ForgetPictures) -> bool | None:
    beton = read_tables(path)
    if beton.shape[1:] != wanted.shape or wanted.has_features:
        return None
    content = np.memmap(path, np.uint8, "r")
    for pointer, size, is_jpeg in zip(beton.pointers, beton.sizes, beton.is_jpeg, strict=True):
        record = content[int(pointer) : int(pointer) + int(size)]
        if digest_pixels(record.tobytes()) in (wanted.jpegs if is_jpeg else wanted.pixels):
            return True
    if beton.is_jpeg.any() and not wanted.all_from_jpegs:
        raise ValueError("it holds JPEG files, and the run's forget pictures are pixels")
    return False
