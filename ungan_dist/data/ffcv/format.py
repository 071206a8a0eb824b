"""FFCV's file format, version 2: what a file of ours looks like, and a reader that believes nothing.

FFCV trusts a file: a pointer that leads outside ends the process. So header and tables are checked here first, in
NumPy, without FFCV: every count, every pointer, every size, every label.

A file holds two fields, ``image`` (``RGBImageField`` where pictures have three channels, else ``NDArrayField`` of
bytes) and ``label`` (``IntField``): header, descriptions of fields, a record an example, pages of pixels, and the table
of what lies where.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt64

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD = np.dtype([("type_id", "<u1"), ("name", "<u1", 16), ("arguments", "<u1", 1024)], align=True)
ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", 32), ("type_length", "<u8")])
"""What a description says of an ``NDArrayField``; the type in JSON follows."""
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

VERSION = 2
INT_FIELD, RGB_FIELD, ARRAY_FIELD = 1, 2, 4
MODE_JPEG, MODE_RAW = 0, 1
MIN_PAGE_SIZE, MAX_PAGE_SIZE = 1 << 21, 1 << 32
NAMES = ("image", "label")
BYTE_TYPE = json.dumps(np.dtype("<u1").descr).encode()


class DamagedBeton(ValueError):
    """A file that FFCV must not be given; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Beton:
    """What the tables of a sound file say."""

    shape: tuple[int, int, int, int]
    """Examples, height, width, channels."""
    labels: Int64[np.ndarray, " examples"]
    pointers: UInt64[np.ndarray, " examples"]
    """Where each picture's bytes begin in the file."""
    sizes: UInt64[np.ndarray, " examples"]
    is_jpeg: Bool[np.ndarray, " examples"]


def record_type(channels: int) -> np.dtype:
    """The record of an example: FFCV names fields f0 and f1 and aligns them."""
    return np.dtype([("f0", IMAGE if channels == 3 else np.dtype("<u8")), ("f1", "<i8")], align=True)


def read_tables(path: Path, *, num_classes: int) -> Beton:
    """Checks a file's header and tables and returns what they say.

    Raises:
        DamagedBeton: anything in them that a file of ours cannot say.
        OSError: the file cannot be read.
    """
    length = path.stat().st_size
    fields_end = HEADER.itemsize + 2 * FIELD.itemsize
    if length < fields_end:
        raise DamagedBeton(f"{length} bytes cannot hold a header and two fields ({fields_end})")
    content = np.memmap(path, np.uint8, "r")
    header = content[: HEADER.itemsize].view(HEADER)[0]
    num_samples, table_begin = int(header["num_samples"]), int(header["alloc_table_ptr"])
    _check_header(header, length)
    fields = content[HEADER.itemsize : fields_end].view(FIELD)
    array_shape = _check_fields(fields)
    kind = record_type(3 if array_shape is None else 1)
    records_end = fields_end + num_samples * kind.itemsize
    if records_end > table_begin:
        raise DamagedBeton(
            f"{num_samples} examples need {records_end} bytes, the table of pixels begins at {table_begin}"
        )
    records = np.array(content[fields_end:records_end]).view(kind)
    table = np.array(content[table_begin:]).view(ALLOCATION)
    pointers, sizes = _check_table(table, num_samples, records_end, table_begin)
    if array_shape is None:
        shape, is_jpeg = _check_images(records["f0"])
        stated = records["f0"]["data_ptr"]
    else:
        shape, is_jpeg = array_shape, np.zeros(num_samples, bool)
        stated = records["f0"]
    if (wrong := np.flatnonzero(stated != pointers)).size:
        raise DamagedBeton(f"example {wrong[0]} points to byte {stated[wrong[0]]}, its pixels lie elsewhere")
    num_bytes = int(np.prod(shape))
    if (wrong := np.flatnonzero(~is_jpeg & (sizes != num_bytes))).size:
        raise DamagedBeton(
            f"example {wrong[0]} has {sizes[wrong[0]]} bytes of pixels, its shape {shape} needs {num_bytes}"
        )
    labels = records["f1"].astype(np.int64)
    if (wrong := np.flatnonzero((labels < 0) | (labels >= num_classes))).size:
        raise DamagedBeton(f"example {wrong[0]} has label {labels[wrong[0]]}, outside [0, {num_classes})")
    return Beton(shape=(num_samples, *shape), labels=labels, pointers=pointers, sizes=sizes, is_jpeg=is_jpeg)


def _check_header(header: np.void, length: int) -> None:
    version, num_fields, page_size = (int(header[name]) for name in ("version", "num_fields", "page_size"))
    num_samples, table_begin = int(header["num_samples"]), int(header["alloc_table_ptr"])
    if version != VERSION:
        raise DamagedBeton(f"its version is {version}, must be {VERSION}")
    if num_fields != len(NAMES):
        raise DamagedBeton(f"it has {num_fields} fields, must have {len(NAMES)}")
    if not MIN_PAGE_SIZE <= page_size < MAX_PAGE_SIZE or page_size & (page_size - 1):
        raise DamagedBeton(f"its page size {page_size} is no power of two in [{MIN_PAGE_SIZE}, {MAX_PAGE_SIZE})")
    if num_samples < 1:
        raise DamagedBeton("it holds no example")
    if table_begin > length or (length - table_begin) != num_samples * ALLOCATION.itemsize:
        raise DamagedBeton(
            f"the table of pixels, {num_samples} entries from byte {table_begin} on, does not end with the file "
            f"({length} bytes): it was cut short, or its header is wrong"
        )


def _check_fields(fields: np.ndarray) -> tuple[int, int, int] | None:
    """Height, width and channels of pictures that are arrays; none where each picture states its own size."""
    names = tuple(field["name"].tobytes().rstrip(b"\0") for field in fields)
    if names != tuple(name.encode() for name in NAMES):
        raise DamagedBeton(f"its fields are called {names}, must be {NAMES}")
    image, label = (int(field["type_id"]) for field in fields)
    if label != INT_FIELD or image not in (RGB_FIELD, ARRAY_FIELD):
        raise DamagedBeton(f"its fields are of types {image} and {label}, must be {RGB_FIELD} or {ARRAY_FIELD} and 1")
    if image == RGB_FIELD:
        return None
    arguments = fields[0]["arguments"]
    head = arguments[: ARRAY_ARGUMENTS.itemsize].view(ARRAY_ARGUMENTS)[0]
    stated = [int(size) for size in head["shape"]]
    type_length = int(head["type_length"])
    kind = arguments[ARRAY_ARGUMENTS.itemsize :][: min(type_length, 64)].tobytes()
    if type_length != len(BYTE_TYPE) or kind != BYTE_TYPE:
        raise DamagedBeton(f"its arrays are of type {kind!r}, must be bytes")
    height, width, channels = stated[:3]
    if any(stated[3:]) or not 0 < height < 1 << 16 or not 0 < width < 1 << 16 or channels not in (1, 2, 4):
        raise DamagedBeton(f"its arrays have shape {stated[:4]}…, must be height, width, channels")
    return height, width, channels


def _check_table(
    table: np.ndarray, num_samples: int, pixels_begin: int, pixels_end: int
) -> tuple[UInt64[np.ndarray, " examples"], UInt64[np.ndarray, " examples"]]:
    """Pointer and size of every example's pixels, which lie between the records and the table, once each."""
    ids, sizes, pointers = table["sample_id"], table["size"], table["ptr"]
    if (wrong := np.flatnonzero(ids >= num_samples)).size:
        raise DamagedBeton(f"entry {wrong[0]} is of example {ids[wrong[0]]} out of {num_samples}")
    # no sum that could overflow: compared with what is left of the file
    end = np.uint64(pixels_end)
    outside = (sizes == 0) | (sizes > end) | (pointers < pixels_begin) | (pointers > end - np.minimum(sizes, end))
    if (wrong := np.flatnonzero(outside)).size:
        entry = wrong[0]
        raise DamagedBeton(
            f"example {ids[entry]} has {sizes[entry]} bytes at {pointers[entry]}, "
            f"outside of the pixels' part of the file, [{pixels_begin}, {pixels_end})"
        )
    counts = np.bincount(ids.astype(np.int64), minlength=num_samples)
    if (wrong := np.flatnonzero(counts != 1)).size:
        raise DamagedBeton(f"example {wrong[0]} has {counts[wrong[0]]} entries in the table, must have 1")
    order = np.argsort(ids)
    return pointers[order].astype(np.uint64), sizes[order].astype(np.uint64)


def _check_images(images: np.ndarray) -> tuple[tuple[int, int, int], Bool[np.ndarray, " examples"]]:
    height, width, modes = int(images["height"][0]), int(images["width"][0]), images["mode"]
    if not height or not width:
        raise DamagedBeton(f"example 0 is {height} × {width} pixels")
    if (wrong := np.flatnonzero((images["height"] != height) | (images["width"] != width))).size:
        other = images[wrong[0]]
        raise DamagedBeton(
            f"example {wrong[0]} is {other['height']} × {other['width']} pixels, example 0 {height} × {width}"
        )
    if (wrong := np.flatnonzero((modes != MODE_JPEG) & (modes != MODE_RAW))).size:
        raise DamagedBeton(f"example {wrong[0]} is stored in mode {modes[wrong[0]]}, must be {MODE_JPEG} or {MODE_RAW}")
    return (height, width, 3), modes == MODE_JPEG
