"""Read CIFAR from Parquet files and from the published archives."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_files import encode, raises_with, random_pictures, read_source, write_parquet
from PIL import Image

from ungan_dist.data.sources import cifar
from ungan_dist.data.sources.cifar import CIFAR10_CLASSES, Archive, read_cifar
from ungan_dist.files import hash_file

JPEG75 = Path(os.environ.get("CIFAR10_PARQUET") or Path(__file__).parents[5] / "shared/data/cifar10-jpeg")
needs_cifar10 = pytest.mark.skipif(
    not (JPEG75 / "test.parquet").is_file(), reason="CIFAR-10 as Parquet is not there: set CIFAR10_PARQUET"
)


def test_the_path_of_cifar10_defaults_to_the_environment_variable(tmp_path, monkeypatch):
    write_parquet(tmp_path / "train.parquet", [encode(image) for image in random_pictures(3)], [9, 0, 4])
    monkeypatch.setenv("CIFAR10_PARQUET", str(tmp_path))
    source = read_source("cifar10")
    assert (source.title, source.num_classes) == ("CIFAR-10 (Parquet)", 10)
    assert source.class_names == CIFAR10_CLASSES
    assert source.mean == (0.4914, 0.4822, 0.4465)
    with raises_with("elsewhere", "does not exist"):
        read_source("cifar10", tmp_path / "elsewhere")


def test_cifar100_reads_fine_labels(tmp_path):
    file = write_parquet(
        tmp_path / "a.parquet", [encode(image) for image in random_pictures(2)], [0, 99], label="fine_label"
    )
    source = read_source("cifar100", file)
    assert (source.title, source.num_classes, source.labels.tolist()) == ("CIFAR-100 (Parquet)", 100, [0, 99])


def test_cifar20_has_coarse_classes_and_fine_subclasses_in_parquet_and_in_the_archive(tmp_path, server):
    images, coarse, fine = random_pictures(5), np.array([0, 1, 1, 0, 1]), np.array([3, 1, 2, 3, 1])
    table = pa.table({"img": [{"bytes": encode(image), "path": None} for image in images]})
    table = table.append_column("fine_label", pa.array(fine)).append_column("coarse_label", pa.array(coarse))
    pq.write_table(table, tmp_path / "a.parquet")
    source = read_source("cifar20", tmp_path / "a.parquet")
    assert (source.title, source.num_classes, len(source.subclass_names)) == ("CIFAR-20 (Parquet)", 20, 100)
    assert source.labels.tolist() == coarse.tolist()
    assert source.sublabels.tolist() == fine.tolist()

    archive = make_archive(*server, fine.astype(np.uint8), images, 2, coarse=coarse)
    found = read_cifar(replace(archive, label_at=0, subclass_names="c/subnames"), tmp_path / "cache", remedy="")
    assert found.labels.tolist() == coarse.tolist()
    assert found.sublabels.tolist() == fine.tolist()
    assert (found.class_names, found.subclass_names) == (("ant", "bee"), ("a", "b", "c", "d"))
    assert cifar.CIFAR20.url == cifar.CIFAR100.url


def test_pictures_of_another_shape_are_refused(tmp_path):
    file = write_parquet(tmp_path / "a.parquet", [encode(image) for image in random_pictures(2, (8, 8))], [0, 1])
    with raises_with("8×8 pixels and 1 channels", "source.kind parquet"):
        read_source("cifar10", file)


@needs_cifar10
def test_real_cifar10_decodes_as_pillow_does():
    file = JPEG75 / "test.parquet"
    source = read_source("cifar10", file)
    rows = pq.read_table(file).slice(0, 50).to_pylist()
    expected = [np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB")) for row in rows]
    np.testing.assert_array_equal(source.images[:50], expected)
    assert source.labels[:50].tolist() == [row["label"] for row in rows]
    assert np.bincount(source.labels).tolist() == [1000] * 10
    if hash_file(file).startswith("2a769ed4"):
        assert source.title == "CIFAR-10 (JPEG 75)"


@pytest.fixture
def server(tmp_path):
    """A folder served on loopback, and its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def make_archive(
    folder: Path, url: str, labels: np.ndarray, images: np.ndarray, label_bytes: int, coarse: Any = 7
) -> Archive:
    """Make a small archive with the published layout; the last two examples are the test set."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    first = np.zeros((len(images), label_bytes - 1), np.uint8) + np.reshape(coarse, (-1, 1)).astype(np.uint8)
    records = np.concatenate([first, labels[:, None], planes], axis=1)
    members = {"c/train.bin": records[:-2].tobytes(), "c/test.bin": records[-2:].tobytes(), "c/names": b"ant\nbee\n"}
    members["c/subnames"] = b"a\nb\nc\nd\n"
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
    images, labels = random_pictures(6), np.array([0, 1, 1, 0, 1, 0], np.uint8)
    archive, cache = make_archive(*server, labels, images, label_bytes), tmp_path / "cache"
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
def test_an_altered_archive_is_refused_and_not_kept(tmp_path, server, damage):
    archive, cache = make_archive(*server, np.zeros(3, np.uint8), random_pictures(3), 1), tmp_path / "cache"
    file = server[0] / "published.tar.gz"
    file.write_bytes(damage(file.read_bytes()))
    with raises_with("published.tar.gz could not be downloaded", archive.md5, "remedy"):
        read_cifar(archive, cache, remedy="the remedy")
    assert list(cache.iterdir()) == []


def test_a_partial_download_in_the_cache_is_replaced(tmp_path, server):
    images = random_pictures(3)
    archive, cache = make_archive(*server, np.zeros(3, np.uint8), images, 1), tmp_path / "cache"
    cache.mkdir()
    (cache / "published.tar.gz").write_bytes(b"half")
    np.testing.assert_array_equal(read_cifar(archive, cache, remedy="").images, images)
    assert [file.name for file in cache.iterdir()] == ["published.tar.gz"]


def test_a_failed_download_names_the_remedy(tmp_path, server, monkeypatch):
    monkeypatch.delenv("CIFAR10_PARQUET", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    missing = Archive(url=f"{server[1]}/gone.tar.gz", md5="0", train=(), test="", label_bytes=1, names=None)
    monkeypatch.setattr("ungan_dist.data.sources.source.CIFAR10", missing)
    with raises_with("gone.tar.gz could not be downloaded", "404", "source.path or CIFAR10_PARQUET"):
        read_source("cifar10")


def test_the_published_archives_are_well_formed():
    assert len(cifar.CIFAR10.train) == 5
    for archive in (cifar.CIFAR10, cifar.CIFAR100):
        assert archive.url.startswith("https://")
        assert len(bytes.fromhex(archive.md5)) == 16
