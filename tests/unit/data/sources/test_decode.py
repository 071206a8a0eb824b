"""Decode pictures: orientation, frames, transparency, depth, size and memory, alike in folders and Parquet."""

from __future__ import annotations

import io
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from picture_files import encode, raises_with, random_pictures, read_source, write_parquet
from PIL import Image

from ungan_dist.config.data import SourceConfig
from ungan_dist.data.ffcv.format import read_tables
from ungan_dist.data.prepared import open_examples, prepare
from ungan_dist.data.sources import decode as decoding
from ungan_dist.data.sources.decode import decode
from ungan_dist.data.sources.source import Source, load_source

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""What brings stored pixels upright, by the orientation in the EXIF standard (tag 274)."""


def save(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def with_orientation(pixels: np.ndarray, orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return save(Image.fromarray(pixels), kind, exif=exif, **options)


def read_both(tmp_path, contents: list[bytes], **options: object) -> Source:
    """Read pictures from Parquet and from a folder, and check that both are the same."""
    (tmp_path / "table").mkdir()
    write_parquet(tmp_path / "table/train.parquet", contents, [number % 2 for number in range(len(contents))])
    for number, content in enumerate(contents):
        folder = tmp_path / "folder" / f"{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03}").write_bytes(content)
    order = np.argsort([number % 2 for number in range(len(contents))], kind="stable")
    table, folder = (
        load_source(SourceConfig(kind="auto", path=str(tmp_path / name), **options)) for name in ("table", "folder")
    )
    np.testing.assert_array_equal(table.images[order], folder.images)
    assert table.notes == folder.notes
    return table


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_are_turned_as_their_orientation_says(tmp_path, kind):
    stored = random_pictures(8, (6, 6, 3))
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = [with_orientation(stored[number], number + 1, kind, **options) for number in range(8)]
    if kind == "JPEG":  # lossy: what Pillow decodes is what is stored
        stored = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])
    source = read_both(tmp_path, contents)
    for number, image in enumerate(source.images):
        np.testing.assert_array_equal(image, UPRIGHT[number + 1](stored[number]))
    assert source.notes == ("7 of 8 pictures were turned as their EXIF orientation says.",)


def test_a_turned_picture_has_the_size_of_the_others(tmp_path):
    wide, tall = random_pictures(1, (4, 6, 3))[0], random_pictures(1, (6, 4, 3))[0]
    source = read_both(tmp_path, [encode(wide), with_orientation(tall, 6, "PNG")])
    np.testing.assert_array_equal(source.images, [wide, np.rot90(tall, -1)])


def test_broken_exif_data_leave_the_picture_as_it_is(tmp_path):
    pixels = random_pictures(2, (4, 4, 3))
    contents = [save(Image.fromarray(image), "PNG", exif=b"Exif\x00\x00XX*\x00broken") for image in pixels]
    source = read_both(tmp_path, contents)
    np.testing.assert_array_equal(source.images, pixels)
    assert "2 of 2 pictures have EXIF data that cannot be read" in source.notes[0]


def test_a_picture_without_remarks_leaves_no_note(tmp_path):
    assert read_both(tmp_path, [encode(image) for image in random_pictures(2, (4, 4, 3))]).notes == ()


def deep_png() -> bytes:
    """Write a PNG of 4 × 4 pixels with 16 bits in each of three channels, which Pillow does not write."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\x00" + b"\x12\x34\x56\x78\x9a\xbc" * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def palette_png() -> bytes:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    return save(picture, "PNG", transparency=1)


FRAMES = [Image.new("RGB", (4, 4), colour) for colour in ((10, 20, 30), (200, 0, 0))]


@pytest.mark.parametrize(
    ("content", "colour", "remark"),
    [
        (save(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), (10, 20, 30), "several frames"),
        (save(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True), (10, 20, 30), "frames"),
        (save(Image.new("RGBA", (4, 4), (10, 20, 30, 99)), "PNG"), (10, 20, 30), "transparent pixels"),
        (save(Image.new("RGBA", (4, 4), (10, 20, 30, 255)), "PNG"), (10, 20, 30), None),
        (palette_png(), (10, 20, 30), "transparent pixels"),
        (deep_png(), (0x12, 0x56, 0x9A), "16 bits a channel"),
        (save(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "JPEG", quality=100), (0, 255, 255), None),
        (save(Image.new("1", (4, 4), 1), "PNG"), (255, 255, 255), None),
        (save(FRAMES[0], "JPEG", quality=100), (10, 20, 30), None),
        (save(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:], quality=100), (10, 20, 30), None),
    ],
    ids=["apng", "webp", "rgba", "opaque", "palette", "rgb16", "cmyk", "1bit", "jpeg", "phone"],
)
def test_pictures_of_every_mode_are_read_and_what_is_dropped_is_said(tmp_path, content, colour, remark):
    source = read_both(tmp_path, [content, encode(random_pictures(1, (4, 4, 3))[0])])
    assert np.abs(source.images[0].astype(int) - colour).max() <= 2
    assert [("1 of 2 pictures" in note and remark in note) for note in source.notes] == ([True] if remark else [])


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF")])
def test_grey_pictures_of_16_bits_are_refused_with_the_remedy(tmp_path, mode, kind):
    content = save(Image.new(mode, (4, 4), 1000), kind)
    for name in ("table", "folder"):
        with raises_with("8 bits a channel" if kind == "PNG" else "it is TIFF.*convert it"):
            read_one(tmp_path / name, content, as_table=name == "table")


def read_one(root, content: bytes, *, as_table: bool) -> Source:
    root.mkdir()
    if as_table:
        return read_source("auto", write_parquet(root / "train.parquet", [content] * 2, [0, 1]))
    for name in ("cat", "dog"):
        (root / name).mkdir()
        (root / name / "1.png").write_bytes(content)
    return read_source("auto", root)


@pytest.mark.parametrize(
    "sizes", [[(40, 60), (60, 40), (33, 47), (16, 16), (5, 9)], [(16, 16), (16, 16)], [(200, 30), (31, 199)]]
)
def test_resizing_is_torchvisions_resize_and_centre_crop(tmp_path, sizes):
    from torchvision.transforms import v2  # 3 s, also where this file is only collected

    images = [random_pictures(1, (*size, 3), seed=number)[0] for number, size in enumerate(sizes)]
    source = read_both(tmp_path, [encode(image) for image in images], resize=16)
    reference = v2.Compose([v2.Resize(16), v2.CenterCrop(16)])
    for image, found in zip(images, source.images, strict=True):
        np.testing.assert_array_equal(found, np.asarray(reference(Image.fromarray(image))))


def test_pictures_of_different_sizes_are_refused_with_the_option(tmp_path):
    contents = [encode(random_pictures(1, (size, size, 3))[0]) for size in (8, 9)]
    with raises_with("9×9 pixels", "is 8×8", "--source.resize"):
        read_both(tmp_path, contents)


def test_the_digits_and_cifar_are_scaled_as_pictures_in_files_are(tmp_path):
    digits = load_source(SourceConfig(kind="digits"))
    for place in (3, 14):
        (tmp_path / f"{digits.labels[place]}").mkdir()
        (tmp_path / f"{digits.labels[place]}/1.png").write_bytes(encode(digits.images[place, ..., 0]))
    expected = load_source(SourceConfig(kind="image_folder", path=str(tmp_path), resize=28)).images
    scaled = load_source(SourceConfig(kind="digits", resize=28))
    assert scaled.images.shape == (1797, 28, 28, 1)
    order = np.argsort(digits.labels[[3, 14]])
    np.testing.assert_array_equal(scaled.images[[3, 14]][order], expected)
    assert (scaled.mean, scaled.labels.tolist()) == (digits.mean, digits.labels.tolist())
    colours = random_pictures(20)
    write_parquet(tmp_path / "train.parquet", [encode(image) for image in colours], [*range(10)] * 2)
    cifar = load_source(SourceConfig(kind="cifar10", path=str(tmp_path / "train.parquet"), resize=48))
    by_pillow = [np.asarray(Image.fromarray(one).resize((48, 48), Image.Resampling.BILINEAR)) for one in colours]
    np.testing.assert_array_equal(cifar.images, by_pillow)


def test_resize_and_columns_are_refused_where_they_would_do_nothing(tmp_path):
    with raises_with("source.resize is for pictures", "Digits as a table"):
        load_source(SourceConfig(kind="digits_table", resize=8))
    with raises_with("source.columns is for files of your own", "digits"):
        load_source(SourceConfig(kind="digits", columns=("label=y",)))
    with raises_with("source.resize must be", "greater than 0"):
        SourceConfig(kind="auto", resize=0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(encode(random_pictures(1)[0]))
    with raises_with("source.columns is for Parquet"):
        load_source(SourceConfig(kind="auto", path=str(tmp_path), columns=("label=y",)))


def test_pictures_that_do_not_fit_in_memory_are_refused_before_they_are_decoded():
    content = save(Image.new("L", (9000, 9000)), "PNG")
    with raises_with("100,000 pictures of 9000×9000 pixels", "TiB", "--source.resize"):
        decode((("this", content) for _ in range(100_000)), 100_000)


def test_a_picture_too_narrow_to_scale_is_refused_and_memory_is_no_damage(monkeypatch):
    content = save(Image.new("L", (1, 60000)), "PNG")
    with raises_with("this is 1×60000 pixels, and 224×13440000 when its shorter side is scaled", "cut it"):
        decode([("this", content)], 1, resize=224)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(decoding, "_turn", fail)
    with pytest.raises(MemoryError):
        decode([("this", save(Image.new("L", (4, 4)), "PNG"))], 1)


@pytest.mark.skipif(not find_spec("ffcv"), reason="FFCV is not installed")
@pytest.mark.parametrize("resize", [None, 140])
def test_every_loader_gives_the_pixels_of_turned_and_resized_jpegs(tmp_path, resize):
    """FFCV reads no EXIF data, so only files whose pixels it decodes exactly may be stored."""
    smooth = np.kron(random_pictures(3, (9, 9, 3)), np.ones((1, 16, 16, 1), np.uint8))
    contents = [
        with_orientation(smooth[number], orientation, "JPEG", quality=95)
        for number, orientation in enumerate((1, 6, 3))
    ]
    write_parquet(tmp_path / "train.parquet", contents, [0, 1, 0])
    source = load_source(SourceConfig(kind="auto", path=str(tmp_path / "train.parquet"), resize=resize))
    kept = [jpeg is not None for jpeg in source.jpegs]
    assert kept == ([True, False, False] if resize is None else [])
    in_file, resident = (
        open_examples(prepare(source, tmp_path / "out", loader=loader), "cpu") for loader in ("ffcv", "resident")
    )
    from ungan_dist.data.examples import gather

    indices = torch.arange(3)
    found = gather(in_file, indices)
    assert torch.equal(found, gather(resident, indices))
    (beton,) = (tmp_path / "out").rglob("data.beton")
    assert read_tables(beton).is_jpeg.tolist() == (kept or [False] * 3)
