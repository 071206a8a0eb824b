"""Read Parquet files: pixels, ids, labels and damaged files."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import encode, raises_with, random_pictures, read_source, write_parquet

from ungan_dist.data.sources.decode import decode
from ungan_dist.data.sources.parquet import read_parquet


def test_every_pixel_is_read_in_order(tmp_path):
    images, labels = random_pictures(7, (5, 6, 3)), [2, 0, 1, 1, 0, 2, 1]
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [encode(image) for image in images[:2]], labels[:2])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [encode(image) for image in images[2:4]], labels[2:4])
    write_parquet(tmp_path / "test.parquet", [encode(image) for image in images[4:]], labels[4:])
    source = read_source("parquet", tmp_path)
    np.testing.assert_array_equal(source.images, images)
    np.testing.assert_array_equal(source.labels, labels)
    np.testing.assert_array_equal(source.test, [4, 5, 6])
    assert (source.num_classes, source.class_names) == (3, ("0", "1", "2"))
    assert (source.title, source.bundled) == (f"{tmp_path.name} (Parquet)", False)


def test_one_file_has_no_test_set_and_class_names_from_its_metadata(tmp_path):
    names = ["cat", "dog", "fish"]
    file = write_parquet(
        tmp_path / "all.parquet", [encode(image) for image in random_pictures(2)], [0, 1], image="image", names=names
    )
    source = read_source("parquet", file)
    assert source.test is None
    assert (source.num_classes, source.class_names) == (3, tuple(names))


def test_grey_pictures_become_rgb_only_in_files_with_coloured_ones(tmp_path):
    grey, coloured = random_pictures(2, (4, 4)), random_pictures(1, (4, 4, 3))
    assert (
        read_source(
            "parquet", write_parquet(tmp_path / "grey.parquet", [encode(p) for p in grey], [0, 1])
        ).images.shape[3]
        == 1
    )
    mixed = read_source(
        "parquet", write_parquet(tmp_path / "mixed.parquet", [encode(grey[0]), encode(coloured[0])], [0, 1])
    )
    np.testing.assert_array_equal(mixed.images[0], np.repeat(grey[0][..., None], 3, axis=2))
    np.testing.assert_array_equal(mixed.images[1], coloured[0])


def test_rows_are_read_across_batches(tmp_path):
    """The file has more rows than one batch and one row group."""
    images = random_pictures(2500, (2, 2))
    file = write_parquet(tmp_path / "a.parquet", [encode(image) for image in images], [0, 1] * 1250)
    pq.write_table(pq.read_table(file), file, row_group_size=700)
    np.testing.assert_array_equal(read_parquet([file], []).images[..., 0], images)


def test_a_file_truncated_anywhere_is_refused(tmp_path):
    whole = write_parquet(
        tmp_path / "whole.parquet", [encode(image) for image in random_pictures(20)], [0, 1] * 10
    ).read_bytes()
    for share in (0, 0.01, 0.5, 0.999):
        file = tmp_path / "train.parquet"
        file.write_bytes(whole[: int(share * len(whole))])
        with raises_with("train.parquet is no complete Parquet file", "again"):
            read_source("parquet", file)


def test_a_file_with_zeroed_bytes_is_refused(tmp_path):
    file = write_parquet(tmp_path / "train.parquet", [encode(image) for image in random_pictures(20)], [0, 1] * 10)
    content = bytearray(file.read_bytes())
    content[1000 : len(content) - 4000] = bytes(len(content) - 5000)
    file.write_bytes(content)
    with raises_with("train.parquet"):
        read_source("parquet", file)


def test_empty_folders_empty_files_and_unknown_paths_are_refused(tmp_path):
    with raises_with(str(tmp_path), "holds no train"):
        read_source("parquet", tmp_path)
    with raises_with("nowhere does not exist", "source.path"):
        read_source("parquet", tmp_path / "nowhere")
    with raises_with("parquet needs source.path"):
        read_source("parquet")
    with raises_with("a.parquet", "holds no row"):
        read_source("parquet", write_parquet(tmp_path / "a.parquet", [], pa.array([], pa.int64())))


def write_with_columns(path, **columns):
    """Write a Parquet file of two pictures with additional columns."""
    file = write_parquet(path, [encode(image) for image in random_pictures(2)], [0, 1])
    table = pq.read_table(file)
    for name, values in columns.items():
        table = table.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    pq.write_table(table, file)
    return file


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({}, None),
        ({"id": [7, 5]}, ("7", "5")),
        ({"id": ["b", "a"]}, ("b", "a")),
        ({"id": pa.array(["b", "a"], pa.large_string())}, ("b", "a")),
        ({"id": pa.array(["b", "a"]).dictionary_encode()}, ("b", "a")),
        ({"ID": [7, 5]}, ("7", "5")),
        ({"Id": [1.5, None], "id": ["b", "a"]}, ("b", "a")),
        ({"image_id": [7, 5]}, None),
    ],
)
def test_ids_are_read_from_a_column_of_integers_or_strings(tmp_path, columns, ids):
    assert read_source("parquet", write_with_columns(tmp_path / "a.parquet", **columns)).ids == ids


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"id": [7.0, 5.0]}, ["column id holds double", "strings or integers: cast it"]),
        ({"ID": [b"b", b"a"]}, ["column ID holds binary", "cast it"]),
        ({"id": [True, False]}, ["column id holds bool"]),
        ({"id": [[1], [2]]}, ["column id holds list"]),
        ({"id": [7, None]}, ["row 1: the id .column id, int64. is missing"]),
        ({"id": pa.array([None, None], pa.null())}, ["column id holds null"]),
        ({"ID": [1, 2], "Id": [3, 4]}, ["columns ID and Id"]),
    ],
)
def test_an_unsuitable_column_of_ids_is_refused(tmp_path, columns, words):
    with raises_with("a.parquet", *words):
        read_source("parquet", write_with_columns(tmp_path / "a.parquet", **columns))


def test_ids_in_only_some_files_are_refused(tmp_path):
    write_with_columns(tmp_path / "train.parquet", id=[7, 5])
    write_with_columns(tmp_path / "test.parquet")
    with raises_with("test.parquet has no column id", "train.parquet has one"):
        read_source("parquet", tmp_path)


@pytest.mark.parametrize(
    ("image", "label", "lacks"), [("picture", "label", "img or image"), ("img", "y", "label or fine_label")]
)
def test_a_missing_column_is_named(tmp_path, image, label, lacks):
    file = write_parquet(
        tmp_path / "a.parquet", [encode(image) for image in random_pictures(2)], [0, 1], image=image, label=label
    )
    with raises_with("a.parquet", image, label, lacks):
        read_source("parquet", file)


@pytest.mark.parametrize("wrong", [-1, 10, 2**40])
def test_a_label_out_of_range_is_named_with_its_file_and_row(tmp_path, wrong):
    contents = [encode(image) for image in random_pictures(3)]
    write_parquet(tmp_path / "train.parquet", contents, [0, 1, 2])
    write_parquet(tmp_path / "test.parquet", contents, [0, wrong, 2])
    with raises_with("test.parquet, row 1", f"label {wrong} is out of range", "0 … 9"):
        read_source("cifar10", tmp_path)


def test_labels_with_a_gap_are_refused_unless_the_file_names_the_classes(tmp_path):
    contents = [encode(image) for image in random_pictures(2)]
    with raises_with("no row has label 1", "without a gap"):
        read_source("parquet", write_parquet(tmp_path / "gap.parquet", contents, [0, 2]))
    with raises_with("no row has label 0"):
        read_source("parquet", write_parquet(tmp_path / "huge.parquet", contents, [1, 2**40]))
    with raises_with("row 1", "label -1 is out of range"):
        read_source("parquet", write_parquet(tmp_path / "negative.parquet", contents, [0, -1]))
    assert (
        read_source(
            "parquet", write_parquet(tmp_path / "named.parquet", contents, [0, 2], names=list("abc"))
        ).num_classes
        == 3
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [([0, None], ("row 1", "missing")), ([0, 0], ("has 1 class",))],
)
def test_missing_non_integer_and_constant_labels_are_refused(tmp_path, labels, words):
    with raises_with(*words):
        read_source(
            "parquet", write_parquet(tmp_path / "a.parquet", [encode(image) for image in random_pictures(2)], labels)
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no picture", ("cannot be decoded",)),
        (b"", ("cannot be decoded",)),
        (encode(random_pictures(1)[0])[:-100], ("cannot be decoded",)),
        (encode(random_pictures(1)[0], "JPEG")[:-500], ("cannot be decoded",)),
        (encode(random_pictures(1)[0], "GIF"), ("cannot be decoded", "PNG, JPEG")),
        (None, ("missing", "not only the path")),
        (encode(random_pictures(1, (8, 9, 3))[0]), ("9×8 pixels", "row 0 is 32×32", "one size")),
        (encode(np.zeros((32, 32), np.uint16)), ("8 bits a channel",)),
    ],
    ids=["text", "empty", "cut_png", "cut_jpeg", "format", "path_only", "size", "16_bits"],
)
def test_an_unreadable_picture_is_named_by_its_row(tmp_path, content, words):
    good = [encode(image) for image in random_pictures(2)]
    with raises_with("a.parquet, row 2", *words):
        read_source("parquet", write_parquet(tmp_path / "a.parquet", [*good, content], [0, 1, 1]))


@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP"]))
def test_damaged_bytes_give_a_picture_or_a_value_error(data, kind):
    content = bytearray(encode(random_pictures(1, (8, 8, 3))[0], kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode([("this", bytes(content))], 1).images
    except ValueError as error:
        found = error
    assert "this" in str(found) if isinstance(found, ValueError) else found.dtype == np.uint8


def test_a_header_that_claims_a_huge_picture_is_refused():
    sizes = struct.pack("<IiiHHIIiiII", 40, 12_000, 9_000, 1, 24, 0, 0, 0, 0, 0, 0)
    header = b"BM" + struct.pack("<IHHI", 1_000, 0, 0, 54) + sizes
    with raises_with("this", "cannot be decoded", "108000000 pixels"):
        decode([("this", header + bytes(100))], 1)
