"""Choose the columns of Parquet files, and read labels of every type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_files import encode, raises_with, random_pictures, read_source, write_parquet

from ungan_dist.commands.options import recipe_config
from ungan_dist.data.sources import parquet
from ungan_dist.data.sources.source import load_source

IMAGES = random_pictures(3, (4, 4, 3))
CONTENTS = [encode(image) for image in IMAGES]


def read_with(path, *options: str):
    """Read the data as the command line does."""
    return load_source(recipe_config(["custom", "--source.path", str(path), *options], command="run").source)


def test_columns_of_any_name_are_read(tmp_path):
    file = write_parquet(tmp_path / "a.parquet", CONTENTS, [2, 0, 1], image="photo", label="breed", names=list("xyz"))
    table = pq.read_table(file).append_column("key", pa.array(["p", "q", "r"]))
    pq.write_table(table, file)
    source = read_with(file, "--source.columns", "image=photo,label=breed,id=key")
    np.testing.assert_array_equal(source.images, IMAGES)
    assert source.labels.tolist() == [2, 0, 1]
    assert (source.ids, source.class_names) == (("p", "q", "r"), ("x", "y", "z"))
    renamed = pq.read_table(file).rename_columns(["image", "label", "id"]).replace_schema_metadata(None)
    pq.write_table(renamed, tmp_path / "b.parquet")
    assert read_with(tmp_path / "b.parquet").content_hash == source.content_hash


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("image=photo", ["no column called label or fine_label", "photo, breed", "--source.columns label=NAME"]),
        ("label=breed", ["no column called img or image", "photo, breed", "--source.columns image=NAME"]),
        ("image=photos,label=breed", ["no column called photos", "photo, breed"]),
        ("image=photo,label=breed,id=key", ["no column called key", "photo, breed"]),
        ("image=breed,label=breed", ["column breed holds int64", "struct<bytes, path>", "--source.columns image=NAME"]),
        ("photo", ["must be like image=photo"]),
        ("picture=photo", ["must be like image=photo", "got picture=photo"]),
        ("image=photo,image=breed", ["at most once"]),
        ("image=", ["must be like image=photo"]),
    ],
)
def test_a_wrong_column_is_refused_with_those_that_exist(tmp_path, option, words):
    write_parquet(tmp_path / "a.parquet", CONTENTS, [2, 0, 1], image="photo", label="breed")
    with raises_with(*words):
        read_with(tmp_path / "a.parquet", "--source.columns", option)


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        (pa.array(["dog", "cat", "dog"]).dictionary_encode(), [1, 0, 1], ("cat", "dog")),
        (pa.array(["dog", "cat", "dog"], pa.large_string()), [1, 0, 1], ("cat", "dog")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (pa.array([1, 0, 1], pa.uint8()), [1, 0, 1], ("0", "1")),
    ],
)
def test_labels_of_every_clear_type_are_read(tmp_path, labels, numbers, names):
    source = read_source("parquet", write_parquet(tmp_path / "a.parquet", CONTENTS, labels))
    assert (source.labels.tolist(), source.class_names) == (numbers, names)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1.0, 0.0, 1.0], ["column label holds double", "cast it to integers"]),
        ([[1], [0], [1]], ["column label holds list", "--source.columns label="]),
        ([b"a", b"b", b"a"], ["column label holds binary"]),
        (["dog", None, "cat"], ["row 1", "label is missing"]),
        ([True, None, False], ["row 1", "label is missing"]),
        ([0, 1, -1], ["row 2", "label -1", "without labels", "remove"]),
        (["dog", "dog", "dog"], ["has 1 class"]),
    ],
)
def test_labels_without_a_clear_meaning_are_refused(tmp_path, labels, words):
    with raises_with("a.parquet|a .Parquet.", *words):
        read_source("parquet", write_parquet(tmp_path / "a.parquet", CONTENTS, labels))


def test_texts_are_numbered_by_the_training_set(tmp_path):
    write_parquet(tmp_path / "train.parquet", CONTENTS, ["cat", "fish", "dog"])
    write_parquet(tmp_path / "test.parquet", CONTENTS, ["fish", "fish", "cat"])
    assert read_source("parquet", tmp_path).labels.tolist() == [0, 2, 1, 2, 2, 0]
    write_parquet(tmp_path / "test.parquet", CONTENTS, ["fish", "owl", "cat"])
    with raises_with("test.parquet, row 1", "'owl' is a class that training lacks", "cat, dog, fish"):
        read_source("parquet", tmp_path)
    write_parquet(tmp_path / "test.parquet", CONTENTS, [0, 1, 2])
    with raises_with("texts and numbers as labels"):
        read_source("parquet", tmp_path)


def test_a_column_of_plain_bytes_holds_pictures(tmp_path):
    pq.write_table(pa.table({"image": CONTENTS, "label": [0, 1, 0]}), tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_source("parquet", tmp_path / "a.parquet").images, IMAGES)


def test_rows_larger_than_any_picture_are_refused_before_they_are_read(tmp_path, monkeypatch):
    """Zeros compress to a few kilobytes. The limit is lowered, so that the test needs no gigabyte itself."""
    monkeypatch.setattr(parquet, "_MAX_FILE_BYTES", 1 << 20)
    table = pa.table({"image": [bytes(32 << 20)], "label": [0]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 16
    del table
    before = pa.total_allocated_bytes()
    with raises_with("column image has 32.0 MiB a row", "more than a picture can have"):
        read_source("parquet", tmp_path / "a.parquet")
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_large_row_group_is_read_in_parts(tmp_path):
    """All pictures of a file may stand in one row group, which need not be in memory as a whole."""
    contents = [np.random.default_rng(number).bytes(1000) for number in range(16_384)]
    file = write_parquet(tmp_path / "a.parquet", contents, [0, 1] * 8192)
    assert pq.ParquetFile(file).num_row_groups == 1
    del contents
    before, largest = pa.total_allocated_bytes(), 0
    for _ in parquet._encoded(parquet.open_table(file), {}):
        largest = max(largest, pa.total_allocated_bytes() - before)
    assert largest < file.stat().st_size / 2


def test_pages_that_do_not_fit_in_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    file = write_parquet(tmp_path / "a.parquet", [encode(image, "BMP") for image in random_pictures(64)], [0, 1] * 32)
    monkeypatch.setattr(parquet, "get_memory_limit", lambda device: 3 * file.stat().st_size // 2)
    with raises_with("a.parquet: its pictures stand in pages of about", "row_group_size=100"):
        read_source("parquet", file)
