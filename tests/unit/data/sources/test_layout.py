"""Find the sets of a data set on disk, and refuse what would be left out."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from picture_files import encode, raises_with, random_pictures, read_source, write_parquet


def write_sets(root, names) -> dict[str, np.ndarray]:
    """Write a Parquet file or a tree of class folders for each name; return the pictures by name."""
    written = {}
    for seed, name in enumerate(names):
        images = random_pictures(4, (4, 4, 3), seed=seed)
        written[name] = images
        if name.endswith(".parquet"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_parquet(root / name, [encode(image) for image in images], [0, 1, 0, 1])
        else:
            for number, image in enumerate(images):
                folder = root / name / ("cat", "dog")[number // 2]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{number}.png").write_bytes(encode(image))
    return written


@pytest.mark.parametrize(
    ("train", "test", "unused"),
    [
        (["train-00000-of-00001.parquet"], ["validation-00000-of-00001.parquet"], []),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], ["data/test-00000.parquet"], []),
        (["default/train/0000.parquet", "default/train/0001.parquet"], ["default/test/0000.parquet"], []),
        (["plain_text/train-00000-of-00001.parquet"], ["plain_text/eval-00000-of-00001.parquet"], []),
        (["mnist_train.parquet"], ["mnist_test.parquet"], ["mnist_dev.parquet"]),
        (["all.parquet"], [], []),
        (["data/a.parquet", "data/b.parquet"], [], []),
        (["train"], ["val"], []),
        (["Training"], ["Dev"], []),
        (["train"], ["test"], ["validation"]),
        (["data/train"], ["data/evaluation"], ["data/valid"]),
        (["seg_train/seg_train"], ["seg_test/seg_test"], []),
        (["pictures/pictures"], [], []),
    ],
)
def test_sets_are_read_by_their_names(tmp_path, train, test, unused):
    """The same layouts were compared by hand with what the library datasets 5.2 reads."""
    written = write_sets(tmp_path, [*train, *test, *unused])
    source = read_source("auto", tmp_path)
    np.testing.assert_array_equal(source.images, np.concatenate([written[name] for name in [*train, *test]]))
    assert (0 if source.test is None else len(source.test)) == 4 * len(test)
    notes = " ".join(source.notes)
    assert ("is not used" in notes) == bool(unused)
    stands_in = [name for name in test if re.search("(^|[^a-z])(val|dev)", name.lower())]
    assert ("have no test set" in notes) == bool(stands_in)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train.parquet", "validation.parquet", "valid.parquet"], ["valid and validation", "one set"]),
        (["train", "test", "eval"], ["eval and test", "one set"]),
        (["test.parquet"], ["holds test and no training set"]),
        (["val", "test"], ["validation|val", "no training set"]),
        (["train.parquet", "more.parquet"], ["more.parquet would not be read", "names no set"]),
        (["train_val.parquet", "test.parquet"], ["train_val names train and validation"]),
        (["fine/train.parquet", "coarse/train.parquet"], ["several data sets", "coarse, fine", "source.path"]),
        (["small/train", "large/train"], ["several data sets", "large, small", "source.path"]),
        (["train.parquet", "cat"], ["Parquet files and the picture", "cat/0.png"]),
        (["train.parquet", "train/0000.parquet"], ["both by files and by folders", "source.path"]),
        (["train", "test_a", "test_b"], ["holds test_a and test_b for one set"]),
        (["train_a", "train_b"], ["holds train_a and train_b for one set"]),
        (["train", "extra"], ["holds extra beside train", "would not be read"]),
    ],
)
def test_an_ambiguous_layout_is_refused(tmp_path, names, words):
    if "cat" in names:
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat/0.png").write_bytes(encode(random_pictures(1)[0]))
    write_sets(tmp_path, [name for name in names if name != "cat"])
    with raises_with(*words):
        read_source("auto", tmp_path)


def test_a_flat_folder_of_test_pictures_is_refused(tmp_path):
    write_sets(tmp_path, ["train"])
    (tmp_path / "test").mkdir()
    (tmp_path / "test/1.png").write_bytes(encode(random_pictures(1)[0]))
    with raises_with("holds test beside train", "would not be read", "class folders"):
        read_source("auto", tmp_path)


@pytest.mark.parametrize("name", ["1.txt.zip", "movie.mp4", "0001", "train.arrow", "x.jpg.icloud", ".x.jpg.icloud"])
@pytest.mark.parametrize("place", ["cat", ".", "train.parquet"])
def test_a_file_that_is_neither_picture_nor_side_file_is_refused(tmp_path, name, place):
    write_sets(tmp_path, [place] if place.endswith("parquet") else ["."])
    file = (tmp_path if place.endswith("parquet") else tmp_path / place) / name
    file.write_bytes(b"something else")
    with raises_with(name, "would not be read", "move it"):
        read_source("auto", tmp_path)


@pytest.mark.parametrize("place", ["cat", ".", "train.parquet"])
def test_side_files_folders_of_tools_and_runs_are_passed_over(tmp_path, place):
    is_parquet = place.endswith("parquet")
    written = write_sets(tmp_path, [place] if is_parquet else ["."])
    folder = tmp_path if is_parquet else tmp_path / place
    for name in (
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "README",
        "LICENSE.txt",
        "metadata.csv",
        "infos.json",
        "0.png:Zone.Identifier",
    ):
        (folder / name).write_bytes(b"something else")
    (folder / "._0.png").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    for name in (".git", ".cache", "__MACOSX", "@eaDir"):
        (folder / name).mkdir()
        (folder / name / "0.png").write_bytes(encode(random_pictures(1)[0]))
    for name in ("runs/data/0123", "runs/custom-0123/figures", "old-run/models"):
        (folder / name).mkdir(parents=True)
        (folder / name / "images.npy").write_bytes(b"something else")
    for name in ("runs/custom-0123", "old-run"):
        (folder / name / "config.json").write_text('{"run_hash": "0123"}')
    np.testing.assert_array_equal(read_source("auto", tmp_path).images, next(iter(written.values())))


@pytest.mark.parametrize("record", ["cat/config.json", "cat/run/config.json"])
def test_pictures_beside_the_record_of_a_run_are_read(tmp_path, record):
    """A run whose name is that of a class, or whose output is a class of pictures below ``data``."""
    written = write_sets(tmp_path, ["."])
    (tmp_path / record).parent.mkdir(exist_ok=True)
    (tmp_path / record).write_text('{"run_hash": "0123"}')
    np.testing.assert_array_equal(read_source("auto", tmp_path).images, written["."])
    (tmp_path / "cat/membership.npy").write_bytes(b"something else")
    with raises_with("membership.npy would not be read", "move it"):
        read_source("auto", tmp_path)


def test_pictures_in_the_data_folder_of_an_output_are_not_passed_over(tmp_path):
    write_sets(tmp_path, ["train", "test", "output/data"])
    (tmp_path / "output/custom-0123").mkdir()
    (tmp_path / "output/custom-0123/config.json").write_text('{"run_hash": "0123"}')
    with raises_with("output beside"):
        read_source("auto", tmp_path)


@pytest.mark.parametrize("name", ["license-plates.parquet", "readme.parquet", "copying-marks.parquet", "part.txt"])
def test_parquet_files_with_names_of_side_files_are_read(tmp_path, name):
    written = write_sets(tmp_path, ["other.parquet", "z.parquet"])
    (tmp_path / "z.parquet").rename(tmp_path / name)
    assert len(read_source("auto", tmp_path).images) == sum(map(len, written.values()))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (".0.png", encode(random_pictures(1, (4, 4, 3))[0]), ["hidden", "rename"]),
        ("0.txt.gif", encode(random_pictures(1, (4, 4, 3))[0], "GIF"), ["it is GIF", "convert"]),
        ("notes.txt", encode(random_pictures(1, (4, 4, 3))[0], "TIFF"), ["it is TIFF", "convert"]),
        ("x.png", b"version https://git-lfs.github.com/spec/v1\noid", ["Git LFS pointer", "git lfs pull"]),
        ("x.png", b"", ["cannot be decoded", "it is empty"]),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_by_name(tmp_path, name, content, words):
    write_sets(tmp_path, ["."])
    (tmp_path / "cat" / name).write_bytes(content)
    with raises_with(name.replace(".", r"\."), *words):
        read_source("auto", tmp_path)


def test_a_pipe_and_a_broken_link_are_refused(tmp_path):
    write_sets(tmp_path, ["."])
    os.mkfifo(tmp_path / "cat/9.png")
    with raises_with("cat/9.png would not be read", "no file"):
        read_source("auto", tmp_path)
    (tmp_path / "cat/9.png").unlink()
    (tmp_path / "cat/0.png.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with raises_with("0.png.jpg would not be read", "link to nothing"):
        read_source("auto", tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
@pytest.mark.parametrize("name", ["2.jfif", "2.jpe", "2.JFIF", "2.apng", "2", "2.dat", "2.txt", "2.gif"])
def test_a_picture_is_known_by_its_content(tmp_path, name, kind):
    written = write_sets(tmp_path, ["."])["."]
    more = np.full((4, 4, 3), 200, np.uint8)  # JPEG keeps a constant exactly
    (tmp_path / "cat" / name).write_bytes(encode(more, kind))
    images = read_source("auto", tmp_path).images
    assert len(images) == len(written) + 1
    assert np.abs(images[2].astype(int) - more).max() <= 1


def test_a_folder_of_the_hubs_cache_is_read_at_the_main_revision(tmp_path):
    for revision, seed in (("abc", 0), ("def", 1)):
        folder = tmp_path / "snapshots" / revision / "data"
        folder.mkdir(parents=True)
        images = random_pictures(2, (4, 4, 3), seed=seed)
        write_parquet(tmp_path / f"blob{seed}", [encode(image) for image in images], [0, 1])
        (folder / "train-00000-of-00001.parquet").symlink_to(tmp_path / f"blob{seed}")
    (tmp_path / "refs").mkdir()
    with raises_with("2 snapshots", "abc, def", "source.path"):
        read_source("auto", tmp_path)
    (tmp_path / "refs/main").write_text("def")
    np.testing.assert_array_equal(read_source("auto", tmp_path).images, random_pictures(2, (4, 4, 3), seed=1))


def test_parquet_of_another_name_is_known_by_its_content(tmp_path):
    images = random_pictures(2, (4, 4, 3))
    write_parquet(tmp_path / "train.parquet", [encode(image) for image in images], [0, 1])
    write_parquet(tmp_path / "test.pqt", [encode(image) for image in images], [0, 1])
    source = read_source("auto", tmp_path)
    assert source.test is not None
    assert source.test.tolist() == [2, 3]


def test_data_of_another_kind_are_refused_in_words_that_fit(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/data-00000-of-00001.arrow").write_bytes(b"ARROW1")
    (tmp_path / "dataset_dict.json").write_text("{}")
    with raises_with("data-00000-of-00001.arrow", "no Parquet file", "to_parquet of datasets"):
        read_source("auto", tmp_path)
    (tmp_path / "1.png").write_bytes(encode(random_pictures(1)[0]))
    with raises_with("1.png is one picture", "class folders"):
        read_source("auto", tmp_path / "1.png")
