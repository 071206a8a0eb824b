"""CIFAR-10 and CIFAR-100 as their authors publish them: downloaded once, checked, and kept in a cache folder.

The binary archives are read, not the Python ones: fixed-length records need no unpickling.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ungan_dist.data.sources.decode import DecodedImages

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_PIXELS = 3 * 32 * 32
TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A published archive: where it is, what it must be, and how a record is laid out."""

    url: str
    md5: str
    """As the authors' page prints it; it publishes no stronger hash."""
    train: tuple[str, ...]
    test: str
    label_bytes: int
    """Bytes before the pixels; the last of them is the label."""
    names: str | None
    """Member that lists the classes, one a line."""


CIFAR10 = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    test="cifar-10-batches-bin/test_batch.bin",
    label_bytes=1,
    names=None,
)
CIFAR100 = Archive(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    train=("cifar-100-binary/train.bin",),
    test="cifar-100-binary/test.bin",
    label_bytes=2,
    names="cifar-100-binary/fine_label_names.txt",
)


def cache_folder() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ungan_dist"


def read_cifar(archive: Archive, folder: Path, *, remedy: str) -> DecodedImages:
    """All examples of a published archive, from the folder if it is there, else downloaded into it.

    Args:
        remedy: what a user without a network can do, said when the download fails.

    Raises:
        ValueError: the archive cannot be had, or is not the one published.
    """
    with tarfile.open(_fetch(archive, folder, remedy)) as tar:
        parts = [_records(_member(tar, name), archive.label_bytes) for name in (*archive.train, archive.test)]
        names = _member(tar, archive.names).decode().split() if archive.names else CIFAR10_CLASSES
    records = np.concatenate(parts)
    planes = records[:, archive.label_bytes :].reshape(-1, 3, 32, 32)
    return DecodedImages(
        images=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        labels=records[:, archive.label_bytes - 1].astype(np.int64),
        class_names=tuple(names),
        num_test=len(parts[-1]),
    )


def _records(content: bytes, label_bytes: int) -> UInt8[np.ndarray, "examples bytes"]:
    return np.frombuffer(content, np.uint8).reshape(-1, label_bytes + NUM_PIXELS)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    assert stream is not None, f"{name} is a file in every archive with the published hash"
    return stream.read()


def _fetch(archive: Archive, folder: Path, remedy: str) -> Path:
    file = folder / archive.url.rsplit("/", 1)[1]
    if file.is_file() and _md5(file) == archive.md5:
        return file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Aside and renamed: a second process, or a download cut short, never leaves half a file under this name.
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            download = Path(aside) / file.name
            _download(archive.url, download)
            if (found := _md5(download)) != archive.md5:
                raise ValueError(f"{archive.url} has md5 {found}, published is {archive.md5}: {remedy}")
            download.replace(file)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"{archive.url} could not be downloaded into {folder} ({error}): {remedy}") from error
    return file


def _download(url: str, file: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, file.open("wb") as stream:
        while chunk := response.read(1 << 20):
            stream.write(chunk)


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
