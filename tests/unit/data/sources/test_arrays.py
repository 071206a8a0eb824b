"""Read tables of features, and refuse what has no clear meaning."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_files import raises_with

from ungan_dist.commands.options import recipe_config
from ungan_dist.data.sources import arrays, features
from ungan_dist.data.sources.source import Source, load_source

RNG = np.random.default_rng(0)
X = RNG.normal(3, 5, (12, 4))
Y = np.arange(12) % 3


def read_file(path, *options: str) -> Source:
    """Read the data as the command line does."""
    return load_source(recipe_config(["custom", "--source.path", str(path), *options], command="run").source)


def save(path, **arrays) -> str:
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (X, np.float64),
        (X.astype(np.float32), np.float32),
        (X.astype(np.float16), np.float32),
        (X.astype(">f4"), np.float32),
        (RNG.integers(0, 2, (12, 600)).astype(bool), np.float32),
        (RNG.integers(-9, 9, (12, 2, 3, 5), np.int8), np.float32),
        (np.asfortranarray(X), np.float64),
        (X + 1.6e9, np.float64),
        (np.full((12, 1), 2**24 + 1), np.float64),
    ],
)
def test_numbers_of_every_type_and_shape_are_kept_exactly_and_standardised(tmp_path, values, kept):
    source = read_file(save(tmp_path / "a.npz", x=values, y=Y))
    assert source.images.dtype == kept
    np.testing.assert_array_equal(source.images, values)
    assert (source.labels.tolist(), source.class_names, source.test) == (Y.tolist(), ("0", "1", "2"), None)
    assert source.input_shape == values.shape[1:]
    assert source.title == "a.npz (arrays)"
    others = (0, *range(2, values.ndim))
    wide = values.astype(np.float64)
    np.testing.assert_allclose(source.mean, wide.mean(others), rtol=1e-6)
    expected = wide.std(others)
    np.testing.assert_allclose(source.std, np.where(expected > 0, expected, 1), rtol=1e-6)


def test_official_test_examples_come_last_and_take_no_part_in_the_statistics(tmp_path):
    arrays = {"X_train": X[:8], "y_train": Y[:8], "X_test": X[8:] + 100, "y_test": Y[8:]}
    source = read_file(save(tmp_path / "a.npz", **arrays, id=np.arange(8) + 50, id_test=np.arange(4) + 70))
    assert source.test is not None
    assert source.test.tolist() == [8, 9, 10, 11]
    np.testing.assert_array_equal(source.images, np.concatenate([X[:8], X[8:] + 100]))
    np.testing.assert_allclose(source.mean, X[:8].mean(0), rtol=1e-6)
    assert source.ids == tuple(str(number) for number in [*range(50, 58), *range(70, 74)])


def test_parquet_columns_are_features_in_order_but_for_the_label_and_the_id(tmp_path):
    columns = {"age": [20, 30, 40], "income": [1.5, 2.5, 0.5], "owner": [True, True, False]}
    table = pa.table({"id": ["p", "q", "r"], **columns, "bought": ["yes", "no", "yes"]})
    pq.write_table(table, tmp_path / "train.parquet")
    pq.write_table(table.select(["bought", "owner", "income", "age", "id"]), tmp_path / "test.parquet")
    source = read_file(tmp_path, "--source.columns", "label=bought")
    frame = table.to_pandas()[["age", "income", "owner"]].astype(float).to_numpy()
    np.testing.assert_array_equal(source.images, np.concatenate([frame, frame]))
    assert source.class_names == ("no", "yes")
    assert source.labels.tolist() == [1, 0, 1] * 2
    assert source.ids == ("p", "q", "r") * 2
    bought = np.array([1, 0, 1])
    np.savez(tmp_path / "same.npz", x=frame, y=bought, x_test=frame, y_test=bought)
    assert source.content_hash == read_file(tmp_path / "same.npz").content_hash


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X}, ["no array called y or label", r"it has x \(float64, 12×4\)", "--source.columns label=NAME"]),
        ({"data": X, "y": Y}, ["no array called x or X", r"data \(float64, 12×4\), y \(int64, 12\)", "features=NAME"]),
        ({"x": X, "features": X, "y": Y}, ["x and features", "--source.columns features=NAME"]),
        ({"x": X.astype(object), "y": Y}, ["array x holds Python objects", "pickle", "astype"]),
        ({"x": X, "y": Y.astype(object)}, ["array y holds Python objects", "astype"]),
        ({"x": np.where(X.max() - 1e-9 < X, np.nan, X), "y": Y}, ["array x, row", "is nan", "drop the row"]),
        ({"x": np.where(X.max() - 1e-9 < X, np.inf, X), "y": Y}, ["array x, row", "is inf"]),
        ({"x": X * 1e40, "y": Y}, ["array x", "too large for a feature"]),
        ({"x": np.full((12, 1), 2**53 + 1), "y": Y}, ["array x", "too large"]),
        ({"x": X.astype(str), "y": Y}, ["array x holds <U", "get_dummies"]),
        ({"x": X.astype(complex), "y": Y}, ["array x holds complex128", "integers, floats or booleans"]),
        ({"x": X.astype("M8[s]"), "y": Y}, ["array x holds datetime64", "dates as numbers"]),
        ({"x": X, "y": Y - 1}, ["array y, row 0: label -1", "number the classes 0, 1, 2", "without labels"]),
        ({"x": X, "y": Y - 5}, ["array y, row 0: label -5 is out of range", "number the classes 0, 1, 2"]),
        ({"x": X, "y": np.where(np.arange(12) == 7, np.nan, Y)}, ["array y, row 7: the label is missing", "drop the"]),
        ({"x": np.c_[X, Y], "y": Y}, ["array x: feature 4 equals the labels", "leave it out"]),
        ({"x": X, "y": Y.astype("<U5000")}, [r"y \(<U5000, 12\), of 19.5 KiB each", "shorter texts"]),
        ({"x": X, "y": Y, "id": Y.astype("<U5000")}, [r"id \(<U5000, 12\), of 19.5 KiB each", "shorter texts"]),
        ({"x": X, "y": Y * 2}, ["array y: no row has label 1", "without a gap"]),
        ({"x": X, "y": Y.astype(float)}, ["array y holds float64", r"save y.astype\(int\)"]),
        ({"x": X, "y": np.full(12, 2**64 - 1, np.uint64)}, ["array y: label 18446744073709551615"]),
        ({"x": X, "y": Y[:, None]}, [r"y \(int64, 12×1\)", r"y.ravel\(\)"]),
        ({"x": X, "y": np.eye(3)[Y]}, [r"y \(float64, 12×3\)", r"argmax\(1\)"]),
        ({"x": X, "y": Y[:5]}, [r"x \(float64, 12×4\) and y \(int64, 5\)", "in the same order"]),
        ({"x": X[:, 0], "y": Y}, [r"x \(float64, 12\)", r"x\[:, None\]"]),
        ({"x": X[:0], "y": Y[:0]}, [r"x \(float64, 0×4\)", "at least one"]),
        ({"x": X[:, :0], "y": Y}, [r"x \(float64, 12×0\)", "at least one"]),
        ({"x": X, "y": np.zeros(12, int)}, ["has 1 class"]),
        ({"x": X, "y": Y, "x_test": X}, ["no array called y_test"]),
        ({"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y}, ["12×4", "12×2", "the same features"]),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, ["no row has label|out of range"]),
        ({"x": X, "y": Y.astype(str), "x_test": X, "y_test": (Y + 1).astype(str)}, ["'3' is a class that training"]),
        ({"x": X, "y": Y, "id": np.arange(5)}, [r"id \(int64, 5\)", "one for each example"]),
        ({"x": X, "y": Y, "id": np.arange(12.0)}, [r"id \(float64, 12\)", "strings or integers"]),
        ({"x": X, "y": Y, "id": np.arange(12), "x_test": X, "y_test": Y}, ["ids for a part", "or to none"]),
    ],
)
def test_arrays_without_a_clear_meaning_are_refused(tmp_path, arrays, words):
    if words == ["no row has label|out of range"]:
        arrays = arrays | {"y_test": np.where(Y == 2, 4, Y)}
    with raises_with("a.npz", *words):
        read_file(save(tmp_path / "a.npz", **arrays))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": [0, 1]}, ["no column beside label"]),
        ({"a": [1, 2]}, ["no column called label or fine_label", "a: name"]),
        ({"a": ["x", "y"], "label": [0, 1]}, ["column a holds string", "get_dummies"]),
        ({"a": [1.0, None], "label": [0, 1]}, ["column a, row 1: the value is missing", "drop the row"]),
        ({"a": [1.0, float("nan")], "label": [0, 1]}, ["column a, row 1: the value is nan"]),
        ({"a": [None, None], "label": [0, 1]}, ["column a, row 0: the value is missing"]),
        ({"a": [1, 2], "__index_level_0__": [0, 1], "label": [0, 1]}, ["__index_level_0__", "index=False"]),
        ({"a": pa.array([1, 2], pa.timestamp("s")), "label": [0, 1]}, ["column a holds timestamp", "dates as numbers"]),
        ({"a": [1, 2], "label": [0.0, 1.0]}, ["column label holds double", "cast it to integers"]),
        ({"a": [1, 2], "label": [0.0, None]}, ["row 1: the label is missing", "drop the row"]),
        ({"a": [1, 2], "label": [0.0, float("nan")]}, ["row 1: the label is missing", "drop the row"]),
        ({"a": [1, 2], "coarse_label": [1, 1], "label": [0, 1]}, ["column coarse_label is named as labels", "drop it"]),
        ({"a": [1, 2], "fine_label": [0, 1], "label": [0, 1]}, ["column fine_label is named as labels", "label=fine"]),
        ({"a": [1, 2], "b": [0, 1], "label": ["x", "y"]}, ["column b equals the labels", "drop it"]),
        ({"a": pa.array([], pa.int64()), "label": pa.array([], pa.int64())}, ["holds no row"]),
    ],
)
def test_columns_without_a_clear_meaning_are_refused(tmp_path, columns, words):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with raises_with("a.parquet", *words):
        read_file(tmp_path / "a.parquet", "--source.kind", "arrays")


def test_files_of_other_formats_and_damaged_ones_are_refused_and_nothing_is_unpickled(tmp_path):
    good = tmp_path / "good.npz"
    save(good, x=X, y=Y)

    class Spy:
        def __reduce__(self):
            return (io.open, (str(tmp_path / "was-run"), "w"))

    (tmp_path / "pickled.npz").write_bytes(pickle.dumps(Spy()))
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:-40])
    (tmp_path / "flipped.npz").write_bytes(good.read_bytes().replace(X.tobytes()[:8], X.tobytes()[8:16], 1))
    (tmp_path / "table.csv").write_text("a,label\n1,0\n")
    np.save(tmp_path / "objects.npy", np.array([Spy()]), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "objects.npz", "w") as archive:
        archive.write(tmp_path / "objects.npy", "x.npy")
        archive.writestr("y.npy", zipfile.ZipFile(good).read("y.npy"))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("x.txt", "text")
    (tmp_path / "link.npz").symlink_to(tmp_path / "absent.npz")
    for name, word in {
        "pickled.npz": "neither an .npz file nor Parquet",
        "cut.npz": "no complete .npz file",
        "flipped.npz": "no complete .npz file .Bad CRC",
        "table.csv": "numpy.savez",
        "objects.npz": "Python objects",
        "other.npz": "x.txt, which is no array",
        "link.npz": "does not exist",
        "objects.npy": "one array of NumPy without labels.*numpy.savez",
    }.items():
        with raises_with(word):
            read_file(tmp_path / name, "--source.kind", "arrays")
    assert not (tmp_path / "was-run").exists()
    (tmp_path / "fine.npz").symlink_to(good)
    assert read_file(tmp_path / "fine.npz").content_hash == read_file(good).content_hash


def test_sizes_that_a_header_declares_are_checked_before_memory_is_taken(tmp_path, monkeypatch):
    def write(name: str, shape: tuple[int, ...], content: bytes) -> str:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", header.getvalue() + content)
            labels = io.BytesIO()
            np.save(labels, Y)
            archive.writestr("y.npy", labels.getvalue())
        return str(tmp_path / name)

    for shape in [(12, 1 << 50), (-12, 4), (12, 3)]:
        with raises_with("x.npy is not as long as its header declares"):
            read_file(write("lie.npz", shape, bytes(8 * 48)))
    monkeypatch.setattr(features, "get_memory_limit", lambda device: 1 << 20)
    bomb = write("bomb.npz", (12, 1 << 15), bytes(12 * 8 << 15))
    np.savez_compressed(tmp_path / "texts.npz", x=X[:, :1].repeat(200, 0), y=np.zeros(2400, "<U4000"))
    with raises_with("texts.npz: reading 2,400 values takes 109.9 MiB of memory"):
        read_file(tmp_path / "texts.npz")
    with raises_with("bomb.npz: reading 393,216 values takes 9.0 MiB of memory", "1.0 MiB", "fewer"):
        read_file(bomb)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--source.resize", "8"], ["source.resize is for pictures"]),
        (["--source.mean", "0.5", "--source.std", "0.5"], ["source.mean", "--source.no-standardise"]),
        (["--source.columns", "image=x"], ["must be like features=x,label=breed,id=key"]),
        (["--source.columns", "features=z"], ["no array called z", "x .float64, 12×4."]),
    ],
)
def test_options_of_pictures_are_refused(tmp_path, options, words):
    with raises_with(*words):
        read_file(save(tmp_path / "a.npz", x=X, y=Y), *options)


def test_unscaled_features_stay_as_they_are_and_large_integers_are_refused(tmp_path):
    source = read_file(save(tmp_path / "a.npz", x=X, y=Y), "--source.no-standardise")
    assert (source.mean, source.std) == ((), ())
    assert source.content_hash != read_file(tmp_path / "a.npz").content_hash
    with raises_with("feature 1 holds integers beyond", "no-standardise"):
        values = np.stack([X[:, 0], np.arange(12) + 2.0**30], 1)
        read_file(save(tmp_path / "b.npz", x=values, y=Y), "--source.no-standardise")
    with raises_with("source.standardise is for features"):
        load_source(recipe_config(["digits", "--source.no-standardise"], command="run").source)


@pytest.mark.parametrize("kind", ["auto", "arrays", "parquet"])
@pytest.mark.parametrize("twice", ["label", "id", "a"])
def test_two_columns_of_one_name_are_refused(tmp_path, kind, twice):
    names = ["a", "label", "id", twice]
    pq.write_table(pa.Table.from_arrays([pa.array([0, 1])] * 4, names=names), tmp_path / "a.parquet")
    with raises_with(rf"a.parquet has two columns of one name \({twice}\)", "rename or drop"):
        read_file(tmp_path / "a.parquet", "--source.kind", kind)


@pytest.mark.parametrize("kind", ["auto", "arrays", "parquet"])
def test_tables_of_other_formats_are_refused_with_the_way_to_convert_them(tmp_path, kind):
    (tmp_path / "t.csv").write_text("a,label\n1,0\n")
    with raises_with("CSV is not read", r"pandas.read_csv\('t.csv'\).to_parquet\('t.parquet', index=False\)"):
        read_file(tmp_path / "t.csv", "--source.kind", kind)
    np.save(tmp_path / "t.npy", X)
    with raises_with("one array of NumPy without labels", r"numpy.savez\(FILE, x=features, y=labels\)"):
        read_file(tmp_path / "t.npy", "--source.kind", kind)


def test_columns_far_from_zero_are_standardised_and_others_as_before():
    own = np.random.default_rng(1).normal(0, 5, 1000).round(2)
    far = np.stack([own + 8.6e9, own + 2000, -own - 8.6e9], 1)
    mean, std = features.measure_moments(far)
    scaled = features.standardise(far, mean, std)
    assert np.abs(scaled.mean(0)).max() < 1e-3
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-3)
    assert mean[1] == np.float32(far[:, 1].mean())
    # the order of adding, which differs between machines, changes nothing
    shuffled = far[np.r_[0, 1 + np.random.default_rng(2).permutation(999)]]
    assert features.measure_moments(shuffled) == (mean, std)


def test_too_little_memory_is_no_damage(tmp_path, monkeypatch):
    def fail(path, columns):
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(arrays, "read_npz", fail)
    with raises_with("a.npz does not fit in memory .Unable to allocate 9 GiB.: keep fewer"):
        read_file(save(tmp_path / "a.npz", x=X, y=Y))
