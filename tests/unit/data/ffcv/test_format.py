"""The file format against FFCV's own writer and reader, and files that are not complete."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ungan_dist.data.ffcv.format import ALLOCATION, FIELD, HEADER, DamagedBeton, read_tables
from ungan_dist.data.ffcv.write import encode_beton_parts

RECORDS = HEADER.itemsize + 2 * FIELD.itemsize


def examples(channels: int, count: int = 7) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(channels)
    return generator.integers(0, 256, (count, 5, 6, channels), dtype=np.uint8), np.arange(count) % 3


def written(path: Path, channels: int = 3) -> bytearray:
    content = bytearray(b"".join(encode_beton_parts(*examples(channels))))
    path.write_bytes(content)
    return content


def pixels_at(content: bytes, pointer: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(content, np.uint8, int(np.prod(shape)), int(pointer)).reshape(shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_written_files_can_be_read(tmp_path: Path, channels: int) -> None:
    content = written(tmp_path / "data.beton", channels)
    images, labels = examples(channels)
    beton = read_tables(tmp_path / "data.beton")
    assert beton.shape == images.shape
    assert beton.labels.tolist() == labels.tolist()
    for image, pointer in zip(images, beton.pointers, strict=True):
        assert (pixels_at(content, pointer, image.shape) == image).all()
    assert bytes(content) == b"".join(encode_beton_parts(images, labels))  # the same examples, the same bytes


@pytest.mark.parametrize("channels", [1, 3])
def test_ffcv_reads_written_files(tmp_path: Path, channels: int) -> None:
    pytest.importorskip("ffcv", reason="FFCV is not installed")
    from ffcv.reader import Reader

    content = written(tmp_path / "data.beton", channels)
    images, labels = examples(channels)
    reader = Reader(str(tmp_path / "data.beton"))
    assert reader.field_names == ["image", "label"]
    assert reader.metadata["f1"].tolist() == labels.tolist()
    pointers = reader.metadata["f0"]["data_ptr"] if channels == 3 else reader.metadata["f0"]
    assert (reader.alloc_table["ptr"] == pointers).all()
    for image, pointer in zip(images, pointers, strict=True):
        assert (pixels_at(content, pointer, image.shape) == image).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_ffcv_files_can_be_read(tmp_path: Path, channels: int) -> None:
    pytest.importorskip("ffcv", reason="FFCV is not installed")
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.writer import DatasetWriter

    images, labels = examples(channels)
    image = RGBImageField() if channels == 3 else NDArrayField(np.dtype("u1"), images.shape[1:])
    path = tmp_path / "data.beton"
    writer = DatasetWriter(str(path), {"image": image, "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset([(image, int(label)) for image, label in zip(images, labels, strict=True)])
    beton = read_tables(path)
    assert beton.shape == images.shape
    assert beton.labels.tolist() == labels.tolist()
    for image, pointer in zip(images, beton.pointers, strict=True):
        assert (pixels_at(path.read_bytes(), pointer, image.shape) == image).all()


def test_jpeg_files_are_stored_unchanged(tmp_path: Path) -> None:
    images, labels = examples(3)
    buffer = io.BytesIO()
    Image.fromarray(images[2]).save(buffer, "JPEG")
    jpegs = [buffer.getvalue() if example == 2 else None for example in range(len(images))]
    content = b"".join(encode_beton_parts(images, labels, jpegs))
    (tmp_path / "data.beton").write_bytes(content)
    beton = read_tables(tmp_path / "data.beton")
    assert beton.is_jpeg.tolist() == [example == 2 for example in range(len(images))]
    begin = int(beton.pointers[2])
    assert content[begin : begin + int(beton.sizes[2])] == jpegs[2]


def test_large_images_lie_within_one_page(tmp_path: Path) -> None:
    """1,000 × 1,000 × 3 bytes need pages of 4 MiB."""
    images = np.random.default_rng(0).integers(0, 256, (3, 1000, 1000, 3), dtype=np.uint8)
    content = b"".join(encode_beton_parts(images, np.zeros(3, np.int64)))
    (tmp_path / "data.beton").write_bytes(content)
    page_size = int(np.frombuffer(content, HEADER, 1)[0]["page_size"])
    assert page_size == 1 << 22
    beton = read_tables(tmp_path / "data.beton")
    for image, pointer in zip(images, beton.pointers, strict=True):
        assert int(pointer) // page_size == (int(pointer) + image.nbytes - 1) // page_size
        assert (pixels_at(content, pointer, image.shape) == image).all()


def test_invalid_examples_raise() -> None:
    with pytest.raises(ValueError, match="without examples"):
        b"".join(encode_beton_parts(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0, np.int64)))
    with pytest.raises(ValueError, match="70000"):
        b"".join(encode_beton_parts(np.zeros((1, 1, 70000, 3), np.uint8), np.zeros(1, np.int64)))
    with pytest.raises(ValueError, match="5 channels"):
        b"".join(encode_beton_parts(np.zeros((1, 2, 2, 5), np.uint8), np.zeros(1, np.int64)))


def test_parts_hold_no_second_copy_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 1000, 600, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        length = sum(len(part) for part in encode_beton_parts(images, np.zeros(4, np.int64)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length > images.nbytes
    assert peak < 2.5e6, "a page of zeros before the first picture, and little else"


def header(name: str, value: int):
    def damage(content: bytearray) -> None:
        np.frombuffer(content, HEADER, 1)[0][name] = value

    return damage


def entry(example: int, name: str, value: int):
    def damage(content: bytearray) -> None:
        begin = int(np.frombuffer(content, HEADER, 1)[0]["alloc_table_ptr"])
        np.frombuffer(content, ALLOCATION, 7, begin)[name][example] = value

    return damage


def cut(length: int):
    def damage(content: bytearray) -> None:
        del content[length:]

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut(0), "cannot hold a header"),
        (cut(2000), "cannot hold a header"),
        (cut(-1), "cut short"),
        (cut(-24), "cut short"),
        (header("version", 3), "version is 3"),
        (header("num_fields", 65535), "65535 fields"),
        (header("num_samples", 8), "8 examples"),
        (header("alloc_table_ptr", 2**64 - 8), "cut short"),
        (entry(2, "ptr", 2**63), "outside"),
        (entry(2, "size", 2**40), "outside"),
    ],
)
def test_an_incomplete_file_is_refused(tmp_path: Path, damage, words: str) -> None:
    path = tmp_path / "data.beton"
    content = written(path)
    damage(content)
    path.write_bytes(content)
    with pytest.raises(DamagedBeton, match=words):
        read_tables(path)
