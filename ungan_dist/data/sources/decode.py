"""Decode pictures to one uint8 array: grey or RGB, all of one size."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import ExifTags, Image, ImageOps

from ungan_dist.data.memory import get_memory_limit
from ungan_dist.data.sources.layout import HEAD_BYTES, identify
from ungan_dist.files import format_bytes

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Formats to decode. Some of Pillow's other readers start programs."""

GREY_MODES = ("1", "L", "LA")
LARGE_PIXELS = 128 * 128
"""Pictures with more pixels keep their JPEG files, which are smaller than their pixels."""

_MAX_SCALED_PIXELS = 1 << 28
"""Pixels of a scaled picture before it is cut, 768 MiB in RGB."""

COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """Examples of a data set, official test examples last."""

    images: UInt8[np.ndarray, "examples height width channels"] | Float[np.ndarray, "examples ..."]
    """Pixels, or features."""
    labels: Int64[np.ndarray, " examples"]
    class_names: tuple[str, ...]
    num_test: int
    """Number of official test examples, which come last."""
    sublabels: Int64[np.ndarray, " examples"] | None = None
    """Number of each example's subclass, a part of its class, if the data have subclasses."""
    subclass_names: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    """Name of each example, if the data have names."""
    jpegs: tuple[bytes | None, ...] = ()
    """JPEG file of each large colour picture; None for any other."""
    notes: tuple[str, ...] = ()
    """What was decided or dropped while reading, for the report."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Decoded pictures."""

    images: UInt8[np.ndarray, "examples height width channels"]
    jpegs: tuple[bytes | None, ...]
    """Files of large colour JPEGs whose pixels are those of ``images``; empty if there are none."""
    notes: tuple[str, ...]
    """What of the pictures is not in their pixels."""


def decode(encoded: Iterable[tuple[str, bytes]], count: int, *, resize: int | None = None) -> Pictures:
    """Decode pictures in order, to one channel if all are grey, else to RGB.

    As the library ``datasets`` does, a picture is turned as its EXIF orientation says, and of several frames the first
    counts.

    Args:
        encoded: Origin of each picture, for messages, and its bytes.
        count: Number of pictures.
        resize: Scale the shorter side to so many pixels and cut a square from the centre; defaults to neither.

    Raises:
        ValueError: A picture cannot be decoded or has 16 bits per channel, pictures differ in size and are not resized,
            or all together do not fit in memory.
    """
    images, first, all_grey = np.empty((0, 0, 0, 3), np.uint8), "", True
    jpegs: list[bytes | None] = []
    remarks: Counter[str] = Counter()
    for position, (where, content) in enumerate(encoded):
        picture = _open(where, content)
        if position == 0:
            first = where
            sides = (resize, resize) if resize else picture.size
            _check_memory(count, *sides, where)
        if resize:
            _check_scaled(where, picture.size, resize)
        # before the pixels take memory; a turned picture may have the sides in the other order
        if position and not resize and sorted(picture.size) != sorted(images.shape[1:3]):
            raise _size_error(where, picture.size, first, images)
        all_grey = all_grey and picture.mode in GREY_MODES
        is_jpeg = picture.format == "JPEG" and picture.mode == "RGB" and picture.width * picture.height > LARGE_PIXELS
        pixels, own = _pixels(where, picture, content, resize)
        remarks.update(own)
        if position == 0:
            images = np.empty((count, *pixels.shape), np.uint8)
        if images.shape[1:] != pixels.shape:
            raise _size_error(where, (pixels.shape[1], pixels.shape[0]), first, images)
        jpegs.append(content if is_jpeg and not resize and TURNED not in own else None)
        images[position] = pixels
    # without the pictures' names, which a report would keep after a purge
    notes = tuple(f"{number:,} of {count:,} pictures {remark}." for remark, number in remarks.items())
    if all_grey:
        return Pictures(images=np.ascontiguousarray(images[..., :1]), jpegs=(), notes=notes)
    return Pictures(images=images, jpegs=tuple(jpegs) if any(jpegs) else (), notes=notes)


TURNED = "were turned as their EXIF orientation says"
_BAD_EXIF = "have EXIF data that cannot be read, and were taken as they are stored"
_FRAMES = "have several frames, and the first is used"
_ALPHA = "have transparent pixels, whose transparency is dropped while their colours stay"
_DEEP = "have 16 bits a channel, of which the upper 8 are used"


def _size_error(where: str, size: tuple[int, int], first: str, images: np.ndarray) -> ValueError:
    return ValueError(
        f"{where} is {size[0]}×{size[1]} pixels, {first} is {images.shape[2]}×{images.shape[1]}: bring all to one size "
        f"with --source.resize N (shorter side to N pixels, then a square from the centre), or resize them yourself"
    )


def _check_memory(count: int, width: int, height: int, where: str) -> None:
    needed, limit = count * width * height * 3, get_memory_limit("cpu")
    if needed > limit:
        raise ValueError(
            f"{count:,} pictures of {width}×{height} pixels, as {where}, take {format_bytes(needed)} of memory, and "
            f"this process may use {format_bytes(limit)}: make them smaller with --source.resize N"
        )


def _check_scaled(where: str, size: tuple[int, int], side: int) -> None:
    """Refuse a picture so narrow that it becomes huge before the square is cut from its centre."""
    longer = side * max(size) // min(size)
    if side * longer > _MAX_SCALED_PIXELS:
        raise ValueError(
            f"{where} is {size[0]}×{size[1]} pixels, and {side}×{longer} when its shorter side is scaled: cut "
            f"it to a part that is less narrow, or remove it"
        )


def _open(where: str, content: bytes) -> Image.Image:
    """Read the header alone, to refuse a picture of the wrong size before it takes memory."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{where} cannot be decoded ({_explain(content, error)}") from error
    if picture.mode not in GREY_MODES + COLOUR_MODES:
        raise ValueError(
            f"{where} has pixels of mode {picture.mode!r}: convert it to 8 bits a channel, grey or RGB, with the range "
            f"of values that you mean"
        )
    return picture


def _explain(content: bytes, error: BaseException) -> str:
    """Finish a message: what the bytes are, and the remedy."""
    found = identify(content[:HEAD_BYTES])
    if not content:
        return "it is empty): replace it by a whole picture"
    if found == "a Git LFS pointer":
        return "it is a Git LFS pointer): fetch the pictures with `git lfs pull`"
    if found and found not in FORMATS:
        return f"it is {found}): convert it to {', '.join(FORMATS)}"
    reason = "it is no such picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return f"{reason}): replace it by a whole picture, {', '.join(FORMATS)}"


def _pixels(
    where: str, picture: Image.Image, content: bytes, resize: int | None
) -> tuple[UInt8[np.ndarray, "height width 3"], list[str]]:
    """Return a picture's pixels, and remarks about what is not in them."""
    remarks: list[str] = []
    # phones store previews behind the picture of a JPEG file; these are no frames
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        remarks.append(_FRAMES)
    if picture.format == "PNG" and content[24] == 16:  # the bit depth in the header
        remarks.append(_DEEP)
    try:
        picture.load()
        if picture.has_transparency_data and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            remarks.append(_ALPHA)
        picture = _turn(picture, remarks).convert("RGB")
        return np.asarray(picture if resize is None else _resize(picture, resize)), remarks
    except MemoryError:
        raise  # says nothing about the picture
    except Exception as error:  # broken bytes make Pillow's readers raise half a dozen unrelated types
        raise ValueError(f"{where} cannot be decoded ({error}): replace it by a whole picture") from error


def take_pixels(picture: Image.Image, resize: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pixels of an opened picture as ``decode`` does: turned as its EXIF says, in RGB, resized."""
    picture = _turn(picture, []).convert("RGB")
    return np.asarray(picture if resize is None else _resize(picture, resize))


def _turn(picture: Image.Image, remarks: list[str]) -> Image.Image:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # its reader raises as many types
        remarks.append(_BAD_EXIF)
        return picture
    if orientation not in range(2, 9):
        return picture
    remarks.append(TURNED)
    return ImageOps.exif_transpose(picture)


def resize_images(
    images: UInt8[np.ndarray, "examples height width channels"], side: int, title: str
) -> UInt8[np.ndarray, "examples side side channels"]:
    """Scale pictures that are already decoded, as ``decode`` does.

    Raises:
        ValueError: They do not fit in memory.
    """
    _check_memory(len(images), side, side, f"those of {title}")
    resized = np.empty((len(images), side, side, images.shape[3]), np.uint8)
    for place, pixels in enumerate(images):
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        resized[place] = np.asarray(_resize(picture, side)).reshape(side, side, -1)
    return resized


def _resize(picture: Image.Image, side: int) -> Image.Image:
    """Scale the shorter side to ``side`` and cut a square from the centre, as torchvision's Resize and CenterCrop."""
    width, height = picture.size
    shorter = min(width, height)
    width, height = (side * length // shorter for length in (width, height))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in (width, height))
    return picture.crop((left, top, left + side, top + side))
