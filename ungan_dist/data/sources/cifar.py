"""Download CIFAR-10 and CIFAR-100 from their authors' page once, check the archives and read them.

The binary archives are read, not the Python ones, because their records need no unpickling.
"""

from __future__ import annotations

import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ungan_dist.data.sources.decode import DecodedImages

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_PIXELS = 3 * 32 * 32
TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A published archive: its address, its hash and the layout of its records."""

    url: str
    md5: str
    """Hash on the authors' page, which publishes no stronger one."""
    train: tuple[str, ...]
    test: str
    label_bytes: int
    """Bytes before the pixels. The last of them is the label."""
    names: str | None
    """Member that lists the class names, one per line."""
    label_at: int = -1
    """Place of the label among these bytes."""
    subclass_names: str | None = None
    """Member that lists the subclasses, whose number is the last of these bytes."""


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
CIFAR20 = replace(
    CIFAR100,
    names="cifar-100-binary/coarse_label_names.txt",
    label_at=0,
    subclass_names="cifar-100-binary/fine_label_names.txt",
)


def read_cifar(archive: Archive, folder: Path, *, remedy: str) -> DecodedImages:
    """Read all examples of an archive, which is downloaded into the folder unless it is there already.

    Args:
        archive: The archive to read.
        folder: Cache folder. A damaged archive in it is downloaded again.
        remedy: Advice in the error of a failed download.

    Raises:
        ValueError: The download fails, or its hash is not the published one.
    """
    with tarfile.open(_fetch(archive, folder, remedy)) as tar:
        parts = [_records(_member(tar, name), archive.label_bytes) for name in (*archive.train, archive.test)]
        names, subclasses = (_names(tar, member) for member in (archive.names, archive.subclass_names))
    records = np.concatenate(parts)
    planes = records[:, archive.label_bytes :].reshape(-1, 3, 32, 32)
    return DecodedImages(
        images=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        labels=records[:, : archive.label_bytes][:, archive.label_at].astype(np.int64),
        class_names=names or CIFAR10_CLASSES,
        sublabels=records[:, archive.label_bytes - 1].astype(np.int64) if subclasses else None,
        subclass_names=subclasses,
        num_test=len(parts[-1]),
    )


def _names(tar: tarfile.TarFile, name: str | None) -> tuple[str, ...]:
    return tuple(_member(tar, name).decode().split()) if name else ()


def _records(content: bytes, label_bytes: int) -> UInt8[np.ndarray, "examples bytes"]:
    return np.frombuffer(content, np.uint8).reshape(-1, label_bytes + NUM_PIXELS)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    assert stream is not None, f"{name} is a file in every archive with the published hash"
    return stream.read()


def _fetch(archive: Archive, folder: Path, remedy: str) -> Path:
    import pooch  # imports requests, which a run without a download does not need

    name = archive.url.rsplit("/", 1)[1]
    progress: Any = _Progress(name)  # pooch takes an object here, which its types leave out
    downloader: Any = pooch.HTTPDownloader(timeout=TIMEOUT_S, progressbar=progress)
    try:
        found = pooch.retrieve(archive.url, f"md5:{archive.md5}", fname=name, path=folder, downloader=downloader)
    except (OSError, ValueError) as error:
        raise ValueError(f"{archive.url} could not be downloaded into {folder} ({error}): {remedy}") from error
    return Path(found)


class _Progress:
    """Print a download's progress, one line for each tenth; pooch calls the methods."""

    def __init__(self, name: str) -> None:
        self.total, self._name, self._received, self._printed = 0, name, 0, 0

    def update(self, num_bytes: int) -> None:
        self._received += num_bytes
        tenths = 10 * self._received // self.total if self.total else 0
        if tenths > self._printed:
            self._printed = tenths
            print(f"{self._name}: {10 * tenths} % of {self.total / 1e6:.0f} MB", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Pooch resets the bar at the end, before it counts all bytes once more."""
        self._received = 0

    def close(self) -> None:
        """Leave the last line as it is."""
