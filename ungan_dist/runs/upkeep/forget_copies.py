"""Where else in an output folder the pictures of a run's forget set lie: prepared data under another hash.

The same pictures are prepared anew where another run normalises them otherwise, or adds pictures to them. They are
found by content, pixel for pixel; a picture that was scaled or encoded anew is another picture here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ungan_dist import store
from ungan_dist.data.ffcv.availability import find_import_error
from ungan_dist.data.ffcv.format import Beton, DamagedBeton, read_tables
from ungan_dist.runs.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ForgetPictures:
    """The forget sets of all audit seeds, as digests."""

    shape: tuple[int, ...]
    """Height, width, channels."""
    pixels: frozenset[bytes]
    jpegs: frozenset[bytes]
    """Of the files that they came from, where those are kept."""
    labels: frozenset[int]


def forget_pictures(plan: Plan) -> ForgetPictures:
    """The pictures that a run is to forget."""
    source = plan.source
    examples: Int64[np.ndarray, " forget"] = np.unique(
        np.concatenate([plan.split.pool[draw.forget] for draw in plan.draws])
    )
    jpegs = [source.jpegs[example] for example in examples] if source.jpegs else []
    return ForgetPictures(
        shape=source.images.shape[1:],
        pixels=frozenset(_digest(source.images[example].tobytes()) for example in examples),
        jpegs=frozenset(_digest(jpeg) for jpeg in jpegs if jpeg is not None),
        labels=frozenset(source.labels[examples].tolist()),
    )


def holds(folder: Path, wanted: ForgetPictures) -> bool:
    """Whether a folder of prepared data holds any of the pictures.

    Raises:
        ValueError: that cannot be told; the message says why.
    """
    images, beton = folder / "images.npy", folder / "data.beton"
    try:
        return (images.exists() and _array_holds(images, wanted)) or (beton.exists() and _beton_holds(beton, wanted))
    except (store.CorruptResult, DamagedBeton, OSError) as error:
        raise ValueError(str(error)) from error


def _array_holds(path: Path, wanted: ForgetPictures) -> bool:
    images = store.read_array(path, mapped=True)
    if images.shape[1:] != wanted.shape or images.dtype != np.uint8:
        return False
    return any(_digest(image.tobytes()) in wanted.pixels for image in images)


def _beton_holds(path: Path, wanted: ForgetPictures) -> bool:
    beton = read_tables(path)
    if beton.shape[1:] != wanted.shape:
        return False
    content = np.memmap(path, np.uint8, "r")
    unknown = []
    for example, stored in enumerate(_records(content, beton)):
        if not beton.is_jpeg[example]:
            if _digest(stored.tobytes()) in wanted.pixels:
                return True
        elif _digest(stored.tobytes()) in wanted.jpegs:
            return True
        elif int(beton.labels[example]) in wanted.labels:
            unknown.append(stored)
    return bool(unknown) and _decoded_hold(unknown, wanted)


def _records(content: np.ndarray, beton: Beton) -> Iterator[np.ndarray]:
    for pointer, size in zip(beton.pointers.tolist(), beton.sizes.tolist(), strict=True):
        yield content[pointer : pointer + size]


def _decoded_hold(jpegs: list[np.ndarray], wanted: ForgetPictures) -> bool:
    """Whether any JPEG, decoded as its loader decodes it, is one of the pictures."""
    if find_import_error() is not None:
        raise ValueError(
            f"{len(jpegs)} of its pictures are JPEG files with labels of the forget set, and FFCV, which would decode "
            f"them, is not installed here"
        )
    from ungan_dist.data.ffcv.operation import decode_jpeg

    pixels = np.empty(wanted.shape, np.uint8)
    for jpeg in jpegs:
        if decode_jpeg(np.array(jpeg), pixels) != 0:
            raise ValueError("it holds a JPEG file that cannot be decoded")
        if _digest(pixels.tobytes()) in wanted.pixels:
            return True
    return False


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
