"""Read pictures from one folder per class, with or without an official test set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ungan_dist.data.sources.decode import FORMATS, DecodedImages, decode
from ungan_dist.data.sources.layout import (
    PICTURES,
    Sets,
    choose_sets,
    identify_file,
    is_side_file,
    list_folder,
    name_set,
)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
"""Endings of files that are pictures or an error; files of other names are known by their first bytes."""


def read_image_folder(root: Path, *, resize: int | None = None) -> DecodedImages:
    """Read ``root/<class>/*``, or ``root/<set>/<class>/*`` with sets such as train, validation and test.

    A file is a picture by its content, whatever its name is. A folder that holds nothing but another is entered.

    Args:
        root: The folder.
        resize: See ``decode``.

    Raises:
        ValueError: no such folder, fewer than two classes, a class without pictures, a set without a known name, a test
            class that training lacks, pictures that cannot be decoded or differ in size, or a file or folder that is
            neither read nor known to hold no picture.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise ValueError(f"{root} {found}: set source.path to a folder that holds a folder per class")
    sets = _find_sets(_enter(root))
    (train_root,) = sets.train
    class_names = tuple(folder.name for folder in _class_folders(train_root))
    if len(class_names) < 2:
        raise ValueError(
            f"{train_root} holds {len(class_names)} class folders: 2 or more are needed, with one class each"
        )
    train = _pictures_by_class(train_root, class_names)
    test = [picture for folder in sets.test for picture in _pictures_by_class(folder, class_names)]
    files = [*train, *test]
    pictures = decode(_contents(files), len(files), resize=resize)
    return DecodedImages(
        images=pictures.images,
        labels=np.array([label for _, label in files], np.int64),
        class_names=class_names,
        num_test=len(test),
        ids=tuple(str(file.relative_to(root)) for file, _ in files),
        jpegs=pictures.jpegs,
        notes=(*sets.notes, *pictures.notes),
    )


def _enter(root: Path, *, in_set: bool = False) -> Path:
    """Return the folder with the sets or classes, below any folders that hold nothing but another folder."""
    while True:
        folders, files = list_folder(root)
        if len(folders) != 1 or not _holds_folders(folders[0]) or (name_set(folders[0].name) and not in_set):
            return root
        _refuse_strays(files, f"{root} is not a class")
        root = folders[0]


def _find_sets(root: Path) -> Sets:
    # A class may be called "train": only a folder of folders is a set.
    folders, _ = list_folder(root)
    holding = [folder for folder in folders if _holds_folders(folder)]
    named = [folder for folder in holding if name_set(folder.name)]
    if not named:
        configs = [folder.name for folder in holding if any(name_set(inner.name) for inner in list_folder(folder)[0])]
        if len(configs) > 1:
            raise ValueError(f"{root} holds several data sets ({', '.join(configs)}): name one of them by source.path")
        return Sets(train=[root], test=[])
    _refuse_strays(list_folder(root)[1], f"{root} is not a class")
    found = choose_sets(root, [(folder.name, folder) for folder in named])
    if others := [folder for folder in folders if folder not in named]:
        flat = [folder.name for folder in others if name_set(folder.name)]
        remedy = "sort its pictures into class folders" if flat else "rename it after a set (train, validation, test)"
        raise ValueError(
            f"{root} holds {', '.join(folder.name for folder in others)} beside {named[0].name}, which would not be "
            f"read: {remedy}, or move it"
        )
    for part in (found.train, found.test):
        if len(part) > 1:
            raise ValueError(
                f"{root} holds {' and '.join(folder.name for folder in part)} for one set: keep one of them"
            )
    train, test = ([_enter(folder, in_set=True) for folder in part] for part in (found.train, found.test))
    return Sets(train=train, test=test, notes=found.notes)


def _holds_folders(folder: Path) -> bool:
    return bool(list_folder(folder)[0])


def _class_folders(root: Path) -> list[Path]:
    folders, files = list_folder(root)
    _refuse_strays(files, f"{root} is not a class")
    return folders


def _refuse_strays(files: list[Path], reason: str) -> None:
    """Refuse files outside of the class folders, except side files."""
    for file in files:
        if _is_picture(file):
            raise ValueError(f"{file} would not be read, because {reason}: put it into a class folder, or move it")


def _is_picture(file: Path) -> bool:
    """Return whether a file is to be decoded, or False for a side file.

    Raises:
        ValueError: It is neither, or it is a picture that cannot be meant.
    """
    hidden = file.name.startswith(".")
    if file.suffix.lower() in SUFFIXES and not hidden:
        return True
    found = identify_file(file)
    if found in FORMATS and not hidden:
        return True
    if found in PICTURES:
        why = "because it is hidden: rename it" if hidden else f"because it is {found}: convert it to PNG"
        raise ValueError(f"{file} would not be read, {why}, or move it")
    if not is_side_file(file.name):
        what = f"it is {found}" if found else f"it is no picture ({', '.join(FORMATS)})"
        raise ValueError(f"{file} would not be read, because {what}: convert it or move it")
    return False


def _pictures_by_class(root: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """List every picture and its label, in the order of class and file name."""
    pictures: list[tuple[Path, int]] = []
    for folder in _class_folders(root):
        if folder.name not in class_names:
            raise ValueError(f"{folder} is a class that training lacks: it has {', '.join(class_names)}")
        folders, files = list_folder(folder)
        if folders:
            raise ValueError(
                f"{folders[0]} would not be read: a class is one folder of pictures; move its pictures up, or move it "
                f"elsewhere"
            )
        found = [file for file in files if _is_picture(file)]
        if not found:
            raise ValueError(f"{folder} holds no picture ({', '.join(FORMATS)}): fill it or remove it")
        pictures += [(file, class_names.index(folder.name)) for file in found]
    return pictures


def _contents(files: list[tuple[Path, int]]) -> Iterator[tuple[str, bytes]]:
    for file, _ in files:
        yield str(file), file.read_bytes()
