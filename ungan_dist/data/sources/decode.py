"""Encoded pictures to one uint8 array: every picture whole, of one size, grey or RGB."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Pillow's other readers are left out: some start programs, and none holds a data set."""

GREY_MODES = ("1", "L", "LA")
LARGE_PIXELS = 128 * 128
"""Pictures with more pixels keep their JPEG files: a file of the data set need not hold what they decode to."""

COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """What a reader found, official test examples last."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int64[np.ndarray, " examples"]
    class_names: tuple[str, ...]
    num_test: int
    """How many of the last examples are the official test set; 0 where there is none."""
    ids: tuple[str, ...] | None = None
    """A name for each example; none where the reader knows none."""
    jpegs: tuple[bytes | None, ...] = ()
    """Large colour pictures as the JPEG files they came from; none for any other."""


def decode(
    encoded: Iterable[tuple[str, bytes]], count: int
) -> tuple[UInt8[np.ndarray, "examples height width channels"], tuple[bytes | None, ...]]:
    """Decodes pictures in order, to one channel if all of them are grey and to RGB otherwise.

    Args:
        encoded: where each picture came from, for messages, and its bytes as in a file.
        count: how many there are.

    Returns:
        The pixels, and the files of those that are large colour JPEGs (nothing at all where no picture is).

    Raises:
        ValueError: one that cannot be decoded, has 16 bits a channel, or differs in size from the first.
    """
    images, first, all_grey = np.empty((0, 0, 0, 3), np.uint8), "", True
    jpegs: list[bytes | None] = []
    for position, (where, content) in enumerate(encoded):
        picture = _open(where, content)
        width, height = picture.size
        if position == 0:
            images, first = np.empty((count, height, width, 3), np.uint8), where
        if images.shape[1:3] != (height, width):
            raise ValueError(
                f"{where} is {width}×{height} pixels, {first} is {images.shape[2]}×{images.shape[1]}: "
                "resize all pictures to one size"
            )
        all_grey = all_grey and picture.mode in GREY_MODES
        is_jpeg = picture.format == "JPEG" and picture.mode == "RGB" and width * height > LARGE_PIXELS
        jpegs.append(content if is_jpeg else None)
        images[position] = _pixels(where, picture)
    if all_grey:
        return np.ascontiguousarray(images[..., :1]), ()
    return images, tuple(jpegs) if any(jpegs) else ()


def _open(where: str, content: bytes) -> Image.Image:
    """The header alone, so that a picture of the wrong size is refused before memory is spent on it."""
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{where} cannot be decoded ({error}): replace it by a whole picture, {', '.join(FORMATS)}"
        ) from error
    if picture.mode not in GREY_MODES + COLOUR_MODES:
        raise ValueError(f"{where} has pixels of mode {picture.mode!r}: convert it to 8 bits a channel, grey or RGB")
    return picture


def _pixels(where: str, picture: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    try:
        return np.asarray(picture.convert("RGB"))
    except Exception as error:  # broken bytes make Pillow's readers raise half a dozen unrelated types
        raise ValueError(f"{where} cannot be decoded ({error}): replace it by a whole picture") from error
