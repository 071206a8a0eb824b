"""Write a data set as one file in FFCV's format. The same examples give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64, UInt8

from ungan_dist.data.ffcv.format import (
    ALLOCATION,
    ARRAY_ARGUMENTS,
    ARRAY_FIELD,
    BYTE_TYPE,
    FIELD,
    HEADER,
    INT_FIELD,
    MAX_PAGE_SIZE,
    MIN_PAGE_SIZE,
    MODE_JPEG,
    MODE_RAW,
    NAMES,
    RGB_FIELD,
    VERSION,
    record_type,
)

PAGE_SIZE = MIN_PAGE_SIZE
"""2 MiB, so that small data sets stay small files. It is doubled until each image fits."""


def encode_beton_parts(
    images: UInt8[np.ndarray, "examples height width channels"],
    labels: Int64[np.ndarray, " examples"],
    jpegs: Sequence[bytes | None] = (),
) -> Iterator[bytes | memoryview]:
    """Encode the file's content in parts, without a second copy of the pixels in memory.

    Args:
        images: pixels of each image.
        labels: class of each image.
        jpegs: JPEG files to store instead of pixels, by example, if there are three channels. Defaults to none.

    Raises:
        ValueError: no examples, an unsupported number of channels, or an image too large for the format.
    """
    num_samples, height, width, channels = images.shape
    if not num_samples:
        raise ValueError("a data set without examples cannot be written")
    if not 1 <= channels <= 4:
        raise ValueError(f"images of {channels} channels cannot be written: must be 1 to 4")
    if max(height, width) >= 1 << 16:
        raise ValueError(f"images of {height} × {width} pixels are too large for FFCV's format: at most 65535 per side")
    stored = [jpegs[example] if example < len(jpegs) else None for example in range(num_samples)]
    sizes = np.array([images[0].nbytes if jpeg is None else len(jpeg) for jpeg in stored], np.int64)
    page_size = PAGE_SIZE
    while page_size < sizes.max():
        page_size *= 2
    if page_size >= MAX_PAGE_SIZE:
        raise ValueError(f"an image of {sizes.max()} bytes is too large for FFCV's format: limit {MAX_PAGE_SIZE}")

    kind = record_type(channels)
    records_end = HEADER.itemsize + 2 * FIELD.itemsize + num_samples * kind.itemsize
    pointers, table_begin = _place_images(sizes, -(-records_end // page_size) * page_size, page_size)

    header = np.zeros((), HEADER)
    header["version"], header["num_fields"], header["page_size"] = VERSION, len(NAMES), page_size
    header["num_samples"], header["alloc_table_ptr"] = num_samples, table_begin
    fields = _fields((height, width, channels))
    records = np.zeros(num_samples, kind)
    records["f1"] = labels
    if channels == 3:
        records["f0"]["mode"] = [MODE_RAW if jpeg is None else MODE_JPEG for jpeg in stored]
        records["f0"]["height"], records["f0"]["width"] = height, width
        records["f0"]["data_ptr"] = pointers
    else:
        records["f0"] = pointers
    table = np.zeros(num_samples, ALLOCATION)
    table["sample_id"], table["ptr"], table["size"] = np.arange(num_samples), pointers, sizes

    written = 0
    for part in (header, fields, records):
        yield part.tobytes()
        written += part.nbytes
    for example, jpeg in enumerate(stored):
        yield bytes(int(pointers[example]) - written)
        yield np.ascontiguousarray(images[example]).data.cast("B") if jpeg is None else jpeg
        written = int(pointers[example] + sizes[example])
    yield bytes(table_begin - written)
    yield table.tobytes()


def _place_images(sizes: Int64[np.ndarray, " examples"], begin: int, page_size: int) -> tuple[np.ndarray, int]:
    """Compute the start of each image, none across the end of a page, and the end of the last page."""
    pointers = np.empty(len(sizes), np.int64)
    place = begin
    for example, size in enumerate(sizes.tolist()):
        left = page_size - place % page_size
        place += left if size > left else 0
        pointers[example] = place
        place += size
    return pointers, -(-place // page_size) * page_size


def _fields(shape: tuple[int, int, int]) -> np.ndarray:
    fields = np.zeros(2, FIELD)
    for field, name in zip(fields, NAMES, strict=True):
        field["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
    fields["type_id"] = RGB_FIELD if shape[2] == 3 else ARRAY_FIELD, INT_FIELD
    if shape[2] != 3:
        head = np.zeros((), ARRAY_ARGUMENTS)
        head["shape"][:3], head["type_length"] = shape, len(BYTE_TYPE)
        arguments = np.frombuffer(head.tobytes() + BYTE_TYPE, np.uint8)
        fields[0]["arguments"][: len(arguments)] = arguments
    return fields
