from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from sklearn.datasets import load_digits

from ungan_dist.config.data import SourceConfig
from ungan_dist.data.sources import cifar
from ungan_dist.data.sources.cifar import CIFAR10_CLASSES, Archive, read_cifar
from ungan_dist.data.sources.decode import decode
from ungan_dist.data.sources.parquet import read_parquet
from ungan_dist.data.sources.source import Source, _channel_moments, load_source
from ungan_dist.files import hash_file

JPEG75 = Path(os.environ.get("CIFAR10_PARQUET") or Path(__file__).parents[5] / "shared/data/cifar10-jpeg")
needs_cifar10 = pytest.mark.skipif(
    not (JPEG75 / "test.parquet").is_file(), reason="CIFAR-10 as Parquet is not there: set CIFAR10_PARQUET"
)


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def pictures(count: int, shape: tuple[int, ...] = (32, 32, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(file: Path, contents: list, labels: list, *, image: str = "img", label: str = "label", names=None) -> Path:
    rows = [{"bytes": content, "path": None} for content in contents]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(rows, kind), label: pa.array(labels)})
    if names:
        note = {"info": {"features": {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(table, file)
    return file


def load(kind: str, path: Path | None = None) -> Source:
    return load_source(SourceConfig(kind=kind, path=None if path is None else str(path)))


def refused(*words: str):
    """A ValueError whose message has every word."""
    return pytest.raises(ValueError, match="".join(f"(?=.*{word})" for word in words))


# Digits


def test_digits_are_scikit_learns_within_half_a_level():
    source, bunch = load("digits"), load_digits()
    assert source.images.shape == (1797, 8, 8, 1)
    assert source.images.dtype == np.uint8
    np.testing.assert_allclose(source.images[..., 0], bunch.images * 255 / 16, rtol=0, atol=0.5)
    np.testing.assert_array_equal(source.labels, bunch.target)
    assert (source.num_classes, source.title, source.bundled) == (10, "Digits (scikit-learn)", True)
    assert source.test is None
    assert source.mean == pytest.approx((source.images / 255).mean((0, 1, 2)), abs=5e-5)
    assert source.std == pytest.approx((source.images / 255).std((0, 1, 2)), abs=5e-5)


def test_digits_take_no_path(tmp_path):
    with refused("source.path", str(tmp_path), "leave it out"):
        load("digits", tmp_path)


# Parquet


def test_parquet_gives_back_every_pixel_in_order(tmp_path):
    images, labels = pictures(7, (5, 6, 3)), [2, 0, 1, 1, 0, 2, 1]
    write(tmp_path / "train-00000-of-00002.parquet", [encode(image) for image in images[:2]], labels[:2])
    write(tmp_path / "train-00001-of-00002.parquet", [encode(image) for image in images[2:4]], labels[2:4])
    write(tmp_path / "test.parquet", [encode(image) for image in images[4:]], labels[4:])
    source = load("parquet", tmp_path)
    np.testing.assert_array_equal(source.images, images)
    np.testing.assert_array_equal(source.labels, labels)
    np.testing.assert_array_equal(source.test, [4, 5, 6])
    assert (source.num_classes, source.class_names) == (3, ("0", "1", "2"))
    assert (source.title, source.bundled) == (f"{tmp_path.name} (Parquet)", False)


def test_one_parquet_file_has_no_test_set_and_names_come_from_its_metadata(tmp_path):
    names = ["cat", "dog", "fish"]
    file = write(tmp_path / "all.parquet", [encode(image) for image in pictures(2)], [0, 1], image="image", names=names)
    source = load("parquet", file)
    assert source.test is None
    assert (source.num_classes, source.class_names) == (3, tuple(names))


def test_grey_pictures_keep_one_channel_and_become_rgb_beside_coloured_ones(tmp_path):
    grey, coloured = pictures(2, (4, 4)), pictures(1, (4, 4, 3))
    assert load("parquet", write(tmp_path / "grey.parquet", [encode(p) for p in grey], [0, 1])).images.shape[3] == 1
    mixed = load("parquet", write(tmp_path / "mixed.parquet", [encode(grey[0]), encode(coloured[0])], [0, 1]))
    np.testing.assert_array_equal(mixed.images[0], np.repeat(grey[0][..., None], 3, axis=2))
    np.testing.assert_array_equal(mixed.images[1], coloured[0])


def test_cifar10_comes_from_the_environment_where_no_path_is_given(tmp_path, monkeypatch):
    write(tmp_path / "train.parquet", [encode(image) for image in pictures(3)], [9, 0, 4])
    monkeypatch.setenv("CIFAR10_PARQUET", str(tmp_path))
    source = load("cifar10")
    assert (source.title, source.num_classes) == ("CIFAR-10 (Parquet)", 10)
    assert source.class_names == CIFAR10_CLASSES
    assert source.mean == (0.4914, 0.4822, 0.4465)
    with refused("elsewhere", "does not exist"):
        load("cifar10", tmp_path / "elsewhere")


def test_cifar100_reads_fine_labels(tmp_path):
    file = write(tmp_path / "a.parquet", [encode(image) for image in pictures(2)], [0, 99], label="fine_label")
    source = load("cifar100", file)
    assert (source.title, source.num_classes, source.labels.tolist()) == ("CIFAR-100 (Parquet)", 100, [0, 99])


def test_a_truncated_parquet_file_is_refused_wherever_it_ends(tmp_path):
    whole = write(tmp_path / "whole.parquet", [encode(image) for image in pictures(20)], [0, 1] * 10).read_bytes()
    for share in (0, 0.01, 0.5, 0.999):
        file = tmp_path / "train.parquet"
        file.write_bytes(whole[: int(share * len(whole))])
        with refused("train.parquet is no complete Parquet file", "again"):
            load("parquet", file)


def with_ids(path, **columns):
    """A Parquet file of two pictures with more columns; None: with none."""
    file = write(path, [encode(image) for image in pictures(2)], [0, 1])
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
def test_ids_are_the_integers_or_strings_of_a_column(tmp_path, columns, ids):
    assert load("parquet", with_ids(tmp_path / "a.parquet", **columns)).ids == ids


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
def test_a_column_of_ids_that_a_list_could_not_name_is_refused(tmp_path, columns, words):
    with refused("a.parquet", *words):
        load("parquet", with_ids(tmp_path / "a.parquet", **columns))


def test_ids_in_some_files_alone_are_refused(tmp_path):
    with_ids(tmp_path / "train.parquet", id=[7, 5])
    with_ids(tmp_path / "test.parquet")
    with refused("test.parquet has no column id", "train.parquet has one"):
        load("parquet", tmp_path)


def test_a_hole_in_a_parquet_file_is_refused(tmp_path):
    file = write(tmp_path / "train.parquet", [encode(image) for image in pictures(20)], [0, 1] * 10)
    content = bytearray(file.read_bytes())
    content[1000 : len(content) - 4000] = bytes(len(content) - 5000)
    file.write_bytes(content)
    with refused("train.parquet"):
        load("parquet", file)


@pytest.mark.parametrize(
    ("image", "label", "lacks"), [("picture", "label", "img or image"), ("img", "y", "label or fine_label")]
)
def test_a_missing_column_is_named(tmp_path, image, label, lacks):
    file = write(tmp_path / "a.parquet", [encode(image) for image in pictures(2)], [0, 1], image=image, label=label)
    with refused("a.parquet", image, label, lacks):
        load("parquet", file)


@pytest.mark.parametrize("wrong", [-1, 10, 2**40])
def test_a_label_out_of_range_is_named_with_its_file_and_row(tmp_path, wrong):
    contents = [encode(image) for image in pictures(3)]
    write(tmp_path / "train.parquet", contents, [0, 1, 2])
    write(tmp_path / "test.parquet", contents, [0, wrong, 2])
    with refused("test.parquet, row 1", f"label {wrong} is out of range", "0 … 9"):
        load("cifar10", tmp_path)


def test_labels_with_a_gap_are_refused_unless_the_file_names_the_classes(tmp_path):
    contents = [encode(image) for image in pictures(2)]
    with refused("no row has label 1", "without a gap"):
        load("parquet", write(tmp_path / "gap.parquet", contents, [0, 2]))
    with refused("no row has label 0"):
        load("parquet", write(tmp_path / "huge.parquet", contents, [1, 2**40]))
    with refused("row 1", "label -1 is out of range"):
        load("parquet", write(tmp_path / "negative.parquet", contents, [0, -1]))
    assert load("parquet", write(tmp_path / "named.parquet", contents, [0, 2], names=list("abc"))).num_classes == 3


@pytest.mark.parametrize(
    ("labels", "words"),
    [([0, None], ("row 1", "missing")), (["cat", "dog"], ("string", "integers")), ([0, 0], ("has 1 class",))],
)
def test_labels_that_are_missing_no_integers_or_all_equal_are_refused(tmp_path, labels, words):
    with refused(*words):
        load("parquet", write(tmp_path / "a.parquet", [encode(image) for image in pictures(2)], labels))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no picture", ("cannot be decoded",)),
        (b"", ("cannot be decoded",)),
        (encode(pictures(1)[0])[:-100], ("cannot be decoded",)),
        (encode(pictures(1)[0], "JPEG")[:-500], ("cannot be decoded",)),
        (encode(pictures(1)[0], "GIF"), ("cannot be decoded", "PNG, JPEG")),
        (None, ("missing", "not only the path")),
        (encode(pictures(1, (8, 9, 3))[0]), ("9×8 pixels", "row 0 is 32×32", "one size")),
        (encode(np.zeros((32, 32), np.uint16)), ("8 bits a channel",)),
    ],
    ids=["text", "empty", "cut_png", "cut_jpeg", "format", "path_only", "size", "16_bits"],
)
def test_a_picture_that_cannot_be_read_is_named_by_its_row(tmp_path, content, words):
    good = [encode(image) for image in pictures(2)]
    with refused("a.parquet, row 2", *words):
        load("parquet", write(tmp_path / "a.parquet", [*good, content], [0, 1, 1]))


@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP"]))
def test_damaged_bytes_give_a_picture_or_a_value_error(data, kind):
    content = bytearray(encode(pictures(1, (8, 8, 3))[0], kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found, _ = decode([("this", bytes(content))], 1)
    except ValueError as error:
        found = error
    assert "this" in str(found) if isinstance(found, ValueError) else found.dtype == np.uint8


def test_empty_folders_empty_files_and_unknown_paths_are_refused(tmp_path):
    with refused(str(tmp_path), "holds no train"):
        load("parquet", tmp_path)
    with refused("nowhere does not exist", "source.path"):
        load("parquet", tmp_path / "nowhere")
    with refused("parquet needs source.path"):
        load("parquet")
    with refused("a.parquet", "holds no row"):
        load("parquet", write(tmp_path / "a.parquet", [], pa.array([], pa.int64())))


def test_pictures_of_another_shape_are_no_cifar(tmp_path):
    file = write(tmp_path / "a.parquet", [encode(image) for image in pictures(2, (8, 8))], [0, 1])
    with refused("8×8 pixels and 1 channels", "source.kind parquet"):
        load("cifar10", file)


@needs_cifar10
def test_real_cifar10_decodes_as_pillow_does():
    file = JPEG75 / "test.parquet"
    source = load("cifar10", file)
    rows = pq.read_table(file).slice(0, 50).to_pylist()
    expected = [np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]
    np.testing.assert_array_equal(source.images[:50], expected)
    assert source.labels[:50].tolist() == [row["label"] for row in rows]
    assert np.bincount(source.labels).tolist() == [1000] * 10
    if hash_file(file).startswith("2a769ed4"):
        assert source.title == "CIFAR-10 (JPEG 75)"


# The published archives


@pytest.fixture
def server(tmp_path):
    """A folder that a server on loopback serves, and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def archive_of(folder: Path, url: str, labels: np.ndarray, images: np.ndarray, label_bytes: int) -> Archive:
    """A small archive laid out as the authors lay theirs out, the last two examples being the test set."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    records = np.concatenate([np.full((len(images), label_bytes - 1), 7, np.uint8), labels[:, None], planes], axis=1)
    members = {"c/train.bin": records[:-2].tobytes(), "c/test.bin": records[-2:].tobytes(), "c/names": b"ant\nbee\n"}
    file = folder / "published.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return Archive(
        url=f"{url}/{file.name}",
        md5=hashlib.md5(file.read_bytes()).hexdigest(),
        train=("c/train.bin",),
        test="c/test.bin",
        label_bytes=label_bytes,
        names="c/names" if label_bytes == 2 else None,
    )


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_an_archive_is_downloaded_checked_kept_and_read(tmp_path, server, capsys, label_bytes):
    images, labels = pictures(6), np.array([0, 1, 1, 0, 1, 0], np.uint8)
    archive, cache = archive_of(*server, labels, images, label_bytes), tmp_path / "cache"
    found = read_cifar(archive, cache, remedy="")
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.num_test == 2
    assert found.class_names == (("ant", "bee") if label_bytes == 2 else CIFAR10_CLASSES)
    assert "published.tar.gz: 100 % of 0 MB" in capsys.readouterr().err
    (server[0] / "published.tar.gz").unlink()
    np.testing.assert_array_equal(read_cifar(archive, cache, remedy="").images, images)
    assert [file.name for file in cache.iterdir()] == ["published.tar.gz"]


@pytest.mark.parametrize("damage", [lambda content: content + b"more", lambda content: content[:-100]])
def test_an_archive_that_is_not_the_published_one_is_refused_and_not_kept(tmp_path, server, damage):
    archive, cache = archive_of(*server, np.zeros(3, np.uint8), pictures(3), 1), tmp_path / "cache"
    file = server[0] / "published.tar.gz"
    file.write_bytes(damage(file.read_bytes()))
    with refused("published.tar.gz could not be downloaded", archive.md5, "remedy"):
        read_cifar(archive, cache, remedy="the remedy")
    assert list(cache.iterdir()) == []


def test_half_a_download_in_the_cache_is_replaced(tmp_path, server):
    images = pictures(3)
    archive, cache = archive_of(*server, np.zeros(3, np.uint8), images, 1), tmp_path / "cache"
    cache.mkdir()
    (cache / "published.tar.gz").write_bytes(b"half")
    np.testing.assert_array_equal(read_cifar(archive, cache, remedy="").images, images)
    assert [file.name for file in cache.iterdir()] == ["published.tar.gz"]


def test_a_download_that_fails_names_the_remedy(tmp_path, server, monkeypatch):
    monkeypatch.delenv("CIFAR10_PARQUET", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    missing = Archive(url=f"{server[1]}/gone.tar.gz", md5="0", train=(), test="", label_bytes=1, names=None)
    monkeypatch.setattr("ungan_dist.data.sources.source.CIFAR10", missing)
    with refused("gone.tar.gz could not be downloaded", "404", "source.path or CIFAR10_PARQUET"):
        load("cifar10")


def test_the_published_layouts_add_up():
    assert len(cifar.CIFAR10.train) == 5
    for archive in (cifar.CIFAR10, cifar.CIFAR100):
        assert archive.url.startswith("https://")
        assert len(bytes.fromhex(archive.md5)) == 16


# Image folders


def fill(folder: Path, images: np.ndarray, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        (folder / f"{number}{suffix}").write_bytes(encode(image))


def test_an_image_folder_is_read_by_class_and_name(tmp_path):
    images = pictures(5, (4, 5, 3))
    fill(tmp_path / "cat", images[:2])
    fill(tmp_path / "dog", images[2:], suffix=".PNG")
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / ".cache").mkdir()
    source = load("image_folder", tmp_path)
    np.testing.assert_array_equal(source.images, images)
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.class_names == ("cat", "dog")
    assert source.test is None
    assert source.title == f"{tmp_path.name} (image folder)"


@pytest.mark.parametrize("format", ["BMP", "WEBP"])
def test_every_format_that_is_decoded_is_found_in_a_folder(tmp_path, format):
    images = pictures(2, (4, 5, 3))
    for name, image in zip(("cat", "dog"), images, strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / f"1.{format.lower()}", format, lossless=True)
    np.testing.assert_array_equal(load("image_folder", tmp_path).images, images)


def test_train_and_test_folders_give_the_official_test_set(tmp_path):
    images = pictures(4, (4, 4, 3))
    for number, folder in enumerate(("train/cat", "train/dog", "test/dog", "test/cat")):
        fill(tmp_path / folder, images[number : number + 1])
    source = load("image_folder", tmp_path)
    np.testing.assert_array_equal(source.images, images[[0, 1, 3, 2]])
    np.testing.assert_array_equal(source.test, [2, 3])
    assert source.labels.tolist() == [0, 1, 0, 1]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "ship", pictures(1))
    fill(tmp_path / "train", pictures(1))
    assert load("image_folder", tmp_path).class_names == ("ship", "train")


def test_faulty_image_folders_are_refused(tmp_path):
    with refused("holds 0 class folders"):
        load("image_folder", tmp_path)
    with refused("nowhere is no folder"):
        load("image_folder", tmp_path / "nowhere")
    fill(tmp_path / "cat", pictures(2, (4, 4, 3)))
    (tmp_path / "dog").mkdir()
    with refused("dog holds no picture"):
        load("image_folder", tmp_path)
    (tmp_path / "dog" / "odd.png").write_bytes(encode(pictures(1, (4, 7, 3))[0]))
    with refused("dog/odd.png is 7×4", "cat/0.png is 4×4", "resize"):
        load("image_folder", tmp_path)
    (tmp_path / "dog" / "odd.png").write_bytes(b"no picture")
    with refused("dog/odd.png cannot be decoded"):
        load("image_folder", tmp_path)


@pytest.mark.parametrize("left_out", ["cat/more/1.png", "cat/1.TIFF", "cat/1.gif"])
def test_no_picture_is_left_out_in_silence(tmp_path, left_out):
    for folder in ("cat", "dog"):
        fill(tmp_path / folder, pictures(1, (4, 4, 3)))
    file = tmp_path / left_out
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"a picture")
    with refused(str(file if file.parent.name == "cat" else file.parent), "would not be read", "move it"):
        load("image_folder", tmp_path)


def test_a_set_of_another_name_is_not_left_out_in_silence(tmp_path):
    for folder in ("train/cat", "train/dog", "val/cat", "val/dog"):
        fill(tmp_path / folder, pictures(1))
    with refused("holds val beside train", "train and test alone"):
        load("image_folder", tmp_path)


def test_a_test_class_that_training_lacks_is_refused(tmp_path):
    for folder in ("train/cat", "train/dog", "test/fish"):
        fill(tmp_path / folder, pictures(1))
    with refused("fish", "cat, dog"):
        load("image_folder", tmp_path)


# What is computed from the data


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_channel_moments_are_numpys_in_float64(images):
    mean, std = _channel_moments(images)
    expected = (images / 255).std((0, 1, 2))
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=0, atol=1e-14)
    constant = np.ptp(images, axis=(0, 1, 2)) == 0
    np.testing.assert_allclose(np.asarray(std)[~constant], expected[~constant], rtol=1e-12)
    assert _channel_moments(images[::-1]) == (mean, std)


def test_a_constant_channel_is_not_divided_by_zero():
    assert _channel_moments(np.full((2000, 3, 3, 1), 100, np.uint8))[1] == (1.0,)


def source_of(**changes) -> Source:
    facts = {
        "images": pictures(4, (2, 2, 3)),
        "labels": np.array([0, 1, 0, 1]),
        "num_classes": 2,
        "class_names": ("a", "b"),
        "title": "toy",
        "bundled": False,
        "test": np.array([3]),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
    }
    return Source(**(facts | changes))


def test_content_hash_changes_with_all_that_a_result_depends_on_and_with_nothing_else():
    changed = pictures(4, (2, 2, 3))
    changed[3, 1, 1, 2] ^= 1
    different = [
        source_of(),
        source_of(images=changed),
        source_of(images=pictures(4, (2, 2, 3)).reshape(4, 1, 4, 3)),
        source_of(labels=np.array([0, 1, 1, 1])),
        source_of(num_classes=3),
        source_of(test=None),
        source_of(test=np.array([2])),
        source_of(mean=(0.5, 0.5, 0.25)),
        source_of(std=(0.2, 0.2, 0.25)),
    ]
    assert len({source.content_hash for source in different}) == len(different)
    assert source_of(title="other", class_names=("c", "d"), bundled=True).content_hash == source_of().content_hash


def test_content_hash_does_not_depend_on_memory_layout():
    turned = np.asfortranarray(pictures(4, (2, 2, 3)))
    assert source_of(images=turned).content_hash == source_of().content_hash


def test_parquet_reader_reads_rows_across_batches(tmp_path):
    """More rows than one batch and one row group hold."""
    images = pictures(2500, (2, 2))
    file = write(tmp_path / "a.parquet", [encode(image) for image in images], [0, 1] * 1250)
    pq.write_table(pq.read_table(file), file, row_group_size=700)
    np.testing.assert_array_equal(read_parquet([file], []).images[..., 0], images)
