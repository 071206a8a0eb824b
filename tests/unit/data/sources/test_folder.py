"""Read folders of pictures, one subfolder a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_files import encode, raises_with, random_pictures, read_source
from PIL import Image


def write_pictures(folder: Path, images: np.ndarray, suffix: str = ".png") -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        (folder / f"{number}{suffix}").write_bytes(encode(image))


def test_an_image_folder_is_read_by_class_and_name(tmp_path):
    images = random_pictures(5, (4, 5, 3))
    write_pictures(tmp_path / "cat", images[:2])
    write_pictures(tmp_path / "dog", images[2:], suffix=".PNG")
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / ".cache").mkdir()
    source = read_source("image_folder", tmp_path)
    np.testing.assert_array_equal(source.images, images)
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.class_names == ("cat", "dog")
    assert source.test is None
    assert source.title == f"{tmp_path.name} (image folder)"


@pytest.mark.parametrize("format", ["BMP", "WEBP"])
def test_every_decoded_format_is_found_in_a_folder(tmp_path, format):
    images = random_pictures(2, (4, 5, 3))
    for name, image in zip(("cat", "dog"), images, strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / f"1.{format.lower()}", format, lossless=True)
    np.testing.assert_array_equal(read_source("image_folder", tmp_path).images, images)


def test_train_and_test_folders_give_the_official_test_set(tmp_path):
    images = random_pictures(4, (4, 4, 3))
    for number, folder in enumerate(("train/cat", "train/dog", "test/dog", "test/cat")):
        write_pictures(tmp_path / folder, images[number : number + 1])
    source = read_source("image_folder", tmp_path)
    np.testing.assert_array_equal(source.images, images[[0, 1, 3, 2]])
    np.testing.assert_array_equal(source.test, [2, 3])
    assert source.labels.tolist() == [0, 1, 0, 1]


def test_a_class_may_be_called_train(tmp_path):
    write_pictures(tmp_path / "ship", random_pictures(1))
    write_pictures(tmp_path / "train", random_pictures(1))
    assert read_source("image_folder", tmp_path).class_names == ("ship", "train")


def test_faulty_image_folders_are_refused(tmp_path):
    with raises_with("holds 0 class folders"):
        read_source("image_folder", tmp_path)
    with raises_with("nowhere does not exist"):
        read_source("image_folder", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with raises_with("file is not a folder"):
        read_source("image_folder", tmp_path / "file")
    (tmp_path / "file").unlink()
    write_pictures(tmp_path / "cat", random_pictures(2, (4, 4, 3)))
    (tmp_path / "dog").mkdir()
    with raises_with("dog holds no picture"):
        read_source("image_folder", tmp_path)
    (tmp_path / "dog" / "odd.png").write_bytes(encode(random_pictures(1, (4, 7, 3))[0]))
    with raises_with("dog/odd.png is 7×4", "cat/0.png is 4×4", "resize"):
        read_source("image_folder", tmp_path)
    (tmp_path / "dog" / "odd.png").write_bytes(b"no picture")
    with raises_with("dog/odd.png cannot be decoded"):
        read_source("image_folder", tmp_path)


@pytest.mark.parametrize("left_out", ["cat/more/1.png", "cat/1.TIFF", "cat/1.gif"])
def test_no_picture_is_ignored_silently(tmp_path, left_out):
    for folder in ("cat", "dog"):
        write_pictures(tmp_path / folder, random_pictures(1, (4, 4, 3)))
    file = tmp_path / left_out
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"a picture")
    with raises_with(str(file if file.parent.name == "cat" else file.parent), "would not be read", "move it"):
        read_source("image_folder", tmp_path)


def test_a_class_only_in_the_test_set_is_refused(tmp_path):
    for folder in ("train/cat", "train/dog", "test/fish"):
        write_pictures(tmp_path / folder, random_pictures(1))
    with raises_with("fish", "cat, dog"):
        read_source("image_folder", tmp_path)
