"""FFCV's file format, version 2, as this package writes it, and a reader of its tables in NumPy.

A file has two fields: ``image`` and ``label`` (``IntField``). Images are an ``RGBImageField`` if they have three
channels, else an ``NDArrayField`` of bytes. The file consists of a header, descriptions of the fields, one record per
example, pages of pixels, and a table of each image's position and size.
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
"""Description of an ``NDArrayField``; its type in JSON follows."""
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

VERSION = 2
INT_FIELD, RGB_FIELD, ARRAY_FIELD = 1, 2, 4
MODE_JPEG, MODE_RAW = 0, 1
MIN_PAGE_SIZE, MAX_PAGE_SIZE = 1 << 21, 1 << 32
NAMES = ("image", "label")
BYTE_TYPE = json.dumps(np.dtype("<u1").descr).encode()


class DamagedBeton(ValueError):
    """A file is incomplete or of another version."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Beton:
    """Tables of a file."""

    shape: tuple[int, int, int, int]
    """Examples, height, width and channels."""
    labels: Int64[np.ndarray, " examples"]
    pointers: UInt64[np.ndarray, " examples"]
    """Position of each image's first byte in the file."""
    sizes: UInt64[np.ndarray, " examples"]
    is_jpeg: Bool[np.ndarray, " examples"]


def record_type(channels: int) -> np.dtype:
    """Return the type of an example's record: FFCV names the fields f0 and f1 and aligns them."""
    return np.dtype([("f0", IMAGE if channels == 3 else np.dtype("<u8")), ("f1", "<i8")], align=True)


def read_tables(path: Path) -> Beton:
    """Read the tables of a file that ``ungan_dist.data.ffcv.write`` wrote.

    The caller compares the file's SHA-256 with its manifest before FFCV opens it. Purging also reads files without
    comparing it, so a file that is cut short or of another version is refused here.

    Raises:
        DamagedBeton: The file is incomplete or of another version.
        OSError: The file cannot be read.
    """
    fields_end = HEADER.itemsize + 2 * FIELD.itemsize
    length = path.stat().st_size
    if length < fields_end:
        raise DamagedBeton(f"its {length} bytes cannot hold a header and two fields ({fields_end} bytes)")
    content = np.memmap(path, np.uint8, "r")
    header = content[: HEADER.itemsize].view(HEADER)[0]
    num_examples, table_begin = int(header["num_samples"]), int(header["alloc_table_ptr"])
    if header["version"] != VERSION or header["num_fields"] != len(NAMES):
        raise DamagedBeton(f"its version is {header['version']} and it has {header['num_fields']} fields, not 2 and 2")
    if table_begin + num_examples * ALLOCATION.itemsize != length:
        raise DamagedBeton(f"its {length} bytes do not end with a table of {num_examples} examples: it was cut short")
    image_field = content[HEADER.itemsize : fields_end].view(FIELD)[0]
    is_rgb = image_field["type_id"] == RGB_FIELD
    kind = record_type(3 if is_rgb else 1)
    records = np.array(content[fields_end : fields_end + num_examples * kind.itemsize]).view(kind)
    table = np.array(content[table_begin:]).view(ALLOCATION)
    table = table[np.argsort(table["sample_id"])]
    if (table["ptr"] + table["size"] > table_begin).any():
        raise DamagedBeton("an image lies outside of the file")
    if is_rgb:
        first = records["f0"][0]
        shape, is_jpeg = (int(first["height"]), int(first["width"]), 3), records["f0"]["mode"] == MODE_JPEG
    else:
        arguments = image_field["arguments"][: ARRAY_ARGUMENTS.itemsize].view(ARRAY_ARGUMENTS)[0]
        height, width, channels = (int(size) for size in arguments["shape"][:3])
        shape, is_jpeg = (height, width, channels), np.zeros(num_examples, bool)
    return Beton(
        shape=(num_examples, *shape),
        labels=records["f1"].astype(np.int64),
        pointers=table["ptr"].astype(np.uint64),
        sizes=table["size"].astype(np.uint64),
        is_jpeg=is_jpeg,
    )
