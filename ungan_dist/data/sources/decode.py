"""Decode pictures to one uint8 array: grey or RGB, all of one size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Formats to decode. Some of Pillow's other readers start programs."""

GREY_MODES = ("1", "L", "LA")
LARGE_PIXELS = 128 * 128
"""Pictures with more pixels keep their JPEG files, which are smaller than their pixels."""

COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """Pictures of a data set, official test examples last."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int64[np.ndarray, " examples"]
    class_names: tuple[str, ...]
    num_test: int
    """Number of official test examples, which come last."""
    ids: tuple[str, ...] | None = None
    """Name of each example, if the data have names."""
    jpegs: tuple[bytes | None, ...] = ()
    """JPEG file of each large colour picture; None for any other."""


def decode(
    encoded: Iterable[tuple[str, bytes]], count: int
) -> tuple[UInt8[np.ndarray, "examples height width channels"], tuple[bytes | None, ...]]:
    """Decode pictures in order, to one channel if all are grey, else to RGB.

    Args:
        encoded: Origin of each picture, for messages, and its bytes.
        count: Number of pictures.

    Returns:
        The pixels, and the files of large colour JPEGs (empty if there are none).

    Raises:
        ValueError: A picture cannot be decoded, has 16 bits per channel, or differs in size from the first.
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
    """Read the header alone, to refuse a picture of the wrong size before it takes memory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
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
