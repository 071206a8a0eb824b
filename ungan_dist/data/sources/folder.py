"""Read pictures from one folder per class, with or without an official test set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ungan_dist.data.sources.decode import DecodedImages, decode

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
OTHER_SUFFIXES = (".avif", ".gif", ".heic", ".jp2", ".pgm", ".ppm", ".tif", ".tiff")
"""Pictures that cannot be read. Skipping them silently would change the data set."""


def read_image_folder(root: Path) -> DecodedImages:
    """Read ``root/<class>/*.png``, or ``root/train/<class>/*.png`` and ``root/test/<class>/*.png``.

    Raises:
        ValueError: no such folder, fewer than two classes, a class without pictures or with folders in it, a set beside
            train and test, a test class that training lacks, or pictures that cannot be decoded or differ in size.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder: set source.path to one that holds a folder per class")
    # A class may be called "train": only a folder of folders is a set.
    has_sets = (root / "train").is_dir() and bool(_folders(root / "train"))
    others = [folder.name for folder in _folders(root) if folder.name not in ("train", "test")]
    if has_sets and others:
        raise ValueError(
            f"{root} holds {', '.join(others)} beside train: pictures are read from train and test alone; rename or "
            f"move the others"
        )
    train_root = root / "train" if has_sets else root
    class_names = tuple(folder.name for folder in _folders(train_root))
    if len(class_names) < 2:
        raise ValueError(f"{train_root} holds {len(class_names)} class folders: at least 2 are needed")
    train = _pictures_by_class(train_root, class_names)
    test = _pictures_by_class(root / "test", class_names) if has_sets and (root / "test").is_dir() else []
    files = [*train, *test]
    images, jpegs = decode(_contents(files), len(files))
    return DecodedImages(
        images=images,
        labels=np.array([label for _, label in files], np.int64),
        class_names=class_names,
        num_test=len(test),
        ids=tuple(str(file.relative_to(root)) for file, _ in files),
        jpegs=jpegs,
    )


def _folders(root: Path) -> list[Path]:
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _pictures_by_class(root: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """List every picture and its label, in the order of class and file name."""
    pictures: list[tuple[Path, int]] = []
    for folder in _folders(root):
        if folder.name not in class_names:
            raise ValueError(f"{folder} is a class that training lacks: it has {', '.join(class_names)}")
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        for entry in entries:
            if entry.is_dir() or entry.suffix.lower() in OTHER_SUFFIXES:
                raise ValueError(
                    f"{entry} would not be read: a class is one folder of pictures ({', '.join(SUFFIXES)}); convert "
                    f"or move it"
                )
        files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES]
        if not files:
            raise ValueError(f"{folder} holds no picture ({', '.join(SUFFIXES)}): fill it or remove it")
        pictures += [(file, class_names.index(folder.name)) for file in files]
    return pictures


def _contents(files: list[tuple[Path, int]]) -> Iterator[tuple[str, bytes]]:
    for file, _ in files:
        yield str(file), file.read_bytes()
