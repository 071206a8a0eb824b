"""Find a run's forget pictures in prepared data under another hash, for example data normalised differently.

Pictures are compared by their pixels; a picture that was scaled or encoded again is a different picture here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ungan_dist import store
from ungan_dist.data.copies import digest_pixels
from ungan_dist.data.ffcv.format import DamagedBeton, read_tables
from ungan_dist.runs.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ForgetPictures:
    """The forget sets of all audit seeds, as digests."""

    shape: tuple[int, ...]
    """Height, width, channels; or the features' own."""
    dtype: str
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
        dtype=source.images.dtype.str,
        pixels=frozenset(digest_pixels(source.images[example].tobytes()) for example in examples),
        jpegs=frozenset(digest_pixels(jpeg) for jpeg in jpegs if jpeg is not None),
        all_from_jpegs=None not in jpegs,
    )


def holds_pictures(folder: Path, wanted: ForgetPictures) -> bool:
    """Return whether a folder of prepared data holds any of the pictures.

    Raises:
        ValueError: this cannot be decided; the message has the reason.
    """
    images, beton = folder / "images.npy", folder / "data.beton"
    try:
        return (images.exists() and _array_holds(images, wanted)) or (beton.exists() and _beton_holds(beton, wanted))
    except (store.CorruptResult, DamagedBeton, OSError) as error:
        raise ValueError(str(error)) from error


def _array_holds(path: Path, wanted: ForgetPictures) -> bool:
    images = store.read_array(path, mapped=True)
    if images.shape[1:] != wanted.shape or images.dtype.str != wanted.dtype:
        return False
    return any(digest_pixels(image.tobytes()) in wanted.pixels for image in images)


def _beton_holds(path: Path, wanted: ForgetPictures) -> bool:
    beton = read_tables(path)
    if beton.shape[1:] != wanted.shape:
        return False
    content = np.memmap(path, np.uint8, "r")
    for pointer, size, is_jpeg in zip(beton.pointers, beton.sizes, beton.is_jpeg, strict=True):
        record = content[int(pointer) : int(pointer) + int(size)]
        if digest_pixels(record.tobytes()) in (wanted.jpegs if is_jpeg else wanted.pixels):
            return True
    if beton.is_jpeg.any() and not wanted.all_from_jpegs:
        raise ValueError("it holds JPEG files, and the run's forget pictures are pixels")
    return False
