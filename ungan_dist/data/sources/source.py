"""Load a data set: digits, CIFAR, Parquet or image folders as uint8 arrays, and tables of features as floats."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt8

from ungan_dist.config.data import SourceConfig
from ungan_dist.data.sources.arrays import is_table, read_arrays
from ungan_dist.data.sources.cifar import CIFAR10, CIFAR10_CLASSES, CIFAR20, CIFAR100, read_cifar
from ungan_dist.data.sources.decode import DecodedImages, resize_images
from ungan_dist.data.sources.features import check_unscaled, holds_features, measure_moments
from ungan_dist.data.sources.folder import read_image_folder
from ungan_dist.data.sources.layout import open_hub_cache
from ungan_dist.data.sources.parquet import find_parquet, holds_parquet, read_other_labels, read_parquet
from ungan_dist.files import cache_folder, hash_file

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""The usual constants. The standard deviation is the mean of each image's own."""

DIGITS_MEAN, DIGITS_STD = (0.3053,), (0.3759,)

CIFAR10_JPEG75_SHA256 = frozenset(
    (
        "d7adb90882786781128c5b26b0c9eeff0a77bcdb11935ffdac64c4a0fde57b89",  # train.parquet
        "2a769ed483ed386892112a67cab8088cf14af58b2460883fb5a6993edc00d1c7",  # test.parquet
    )
)
"""Files whose pixels were compressed as JPEG of quality 75. Their results need a title of their own."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A labelled data set in memory."""

    images: UInt8[np.ndarray, "examples height width channels"] | Float[np.ndarray, "examples ..."]
    """Pixels; or features as they were read, of any shape."""
    labels: Int64[np.ndarray, " examples"]
    """In [0, num_classes)."""
    num_classes: int
    class_names: tuple[str, ...]
    title: str
    """Name of the data in every table, for example "CIFAR-10 (JPEG 75)"."""
    bundled: bool
    """Whether a public package contains the data, so that reports may show its images."""
    test: Int64[np.ndarray, " test"] | None
    """Official test examples, if there are any."""
    mean: tuple[float, ...]
    """Mean of each channel, of pixels divided by 255; or of each feature, see ``measure_moments``, and empty if the
    features are used as they are."""
    std: tuple[float, ...]
    sublabels: Int64[np.ndarray, " examples"] | None = None
    """Number of each example's subclass, a part of its class, if the data have subclasses."""
    subclass_names: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    """Name of each example: an image's path in its folder, a Parquet file's column ``id``, or an array ``id``."""
    jpegs: tuple[bytes | None, ...] = ()
    """JPEG file of each large colour image, by example; empty if there are none."""
    notes: tuple[str, ...] = ()
    """What was decided or dropped while reading, for the report."""

    @property
    def has_features(self) -> bool:
        """Whether the examples are features and no pictures."""
        return holds_features(self.images)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an example as a model takes it: channels, height and width, or the features' own."""
        return shape_of_input(self.images)

    @cached_property
    def content_hash(self) -> str:
        """Hash of everything that a result depends on, which excludes names and title (SHA-256)."""
        facts = (
            self.images.shape,
            self.num_classes,
            self.mean,
            self.std,
            None if self.test is None else len(self.test),
        )
        digest = hashlib.sha256(repr(facts).encode())
        if self.has_features:
            digest.update(self.images.dtype.newbyteorder("<").str.encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(self.labels.astype("<i8").data)
        if self.test is not None:
            digest.update(self.test.astype("<i8").data)
        return digest.hexdigest()


def load_source(config: SourceConfig) -> Source:
    """Load the data set of a config, with its normalisation.

    Raises:
        ValueError: the path is missing, unknown or unused, or the download fails. The data is damaged, unlabelled or of
            mixed sizes, or the normalisation is for another number of channels.
    """
    is_read = config.kind in ("parquet", "image_folder", "arrays", "auto")
    if config.columns and not is_read:
        raise ValueError(f"source.columns is for files of your own, not for source.kind {config.kind}: leave it out")
    try:
        source = _read(config)
    except MemoryError as error:
        raise ValueError(
            f"{config.path or config.kind} does not fit in memory ({error}): keep fewer examples or features, smaller "
            f"pictures, or use a machine with more memory"
        ) from error
    _check_options(config, source)
    if config.resize and not is_read:
        source = replace(source, images=resize_images(source.images, config.resize, source.title), jpegs=())
    if config.mean is None or config.std is None:
        return source
    channels = source.images.shape[-1]
    if {len(config.mean), len(config.std)} != {channels}:
        raise ValueError(
            f"source.mean {config.mean} and source.std {config.std} must have a number for each of the {channels} "
            f"channels of {source.title}"
        )
    return replace(source, mean=config.mean, std=config.std)


def _check_options(config: SourceConfig, source: Source) -> None:
    """Refuse options that would have no effect."""
    if not source.has_features:
        if not config.standardise:
            raise ValueError(
                f"source.standardise is for features, and {source.title} holds pictures: set their normalisation by "
                f"source.mean and source.std"
            )
        return
    if config.resize:
        raise ValueError(f"source.resize is for pictures, and {source.title} holds features: leave it out")
    if config.mean:
        raise ValueError(
            f"source.mean and source.std are for pictures, and {source.title} holds features: scale the features "
            f"yourself, and use them as they are with --source.no-standardise"
        )


def _read(config: SourceConfig) -> Source:
    path = Path(config.path).expanduser() if config.path else None
    match config.kind:
        case "digits" | "digits_table":
            if path is not None:
                raise ValueError(f"source.path {path} would be ignored: digits come with scikit-learn; leave it out")
            return _digits() if config.kind == "digits" else _digits_table(config)
        case "cifar10":
            from_environment = os.environ.get("CIFAR10_PARQUET")
            return _cifar10(path or (Path(from_environment).expanduser() if from_environment else None))
        case "cifar20":
            return _cifar20(path)
        case "cifar100":
            return _cifar100(path)
        case _:
            if path is None:
                raise ValueError(
                    f"source.kind {config.kind} needs source.path: name the data's file or folder with --source.path"
                )
            name, path = path.resolve().name, open_hub_cache(path)
            if config.kind == "arrays" or (config.kind == "auto" and _holds_arrays(config, path)):
                return _arrays(config, path, name)
            if config.kind == "parquet" or (config.kind == "auto" and path.exists() and holds_parquet(path)):
                return _parquet(config, path, name)
            if config.columns:
                raise ValueError(f"source.columns is for Parquet, and {path} holds pictures: leave it out")
            return _source(read_image_folder(path, resize=config.resize), f"{name} (image folder)")


def _parquet(config: SourceConfig, path: Path, name: str) -> Source:
    sets = find_parquet(path)
    decoded = read_parquet(sets.train, sets.test, columns=config.columns, resize=config.resize, notes=sets.notes)
    return _source(decoded, _parquet_title([*sets.train, *sets.test], name))


def _holds_arrays(config: SourceConfig, path: Path) -> bool:
    """Return whether a path is to be read as features rather than as pictures."""
    if path.suffix == ".npz":
        return True
    names_picture = any(entry.startswith("image=") for entry in config.columns)
    return not names_picture and path.exists() and holds_parquet(path) and is_table(path)


def _arrays(config: SourceConfig, path: Path, name: str) -> Source:
    return _table(config, read_arrays(path, columns=config.columns), f"{name} (arrays)")


def _table(config: SourceConfig, decoded: DecodedImages, title: str, *, bundled: bool = False) -> Source:
    moments = (), ()
    if config.standardise:
        moments = measure_moments(decoded.images[: len(decoded.labels) - decoded.num_test])
    else:
        check_unscaled(decoded.images, title)
    return _source(decoded, title, moments, bundled=bundled)


def _digits_table(config: SourceConfig) -> Source:
    """Load the digits as scikit-learn has them: 64 columns of the numbers 0 … 16."""
    decoded = _read_digits()
    columns = decoded.images.astype(np.float32).reshape(-1, 64)
    return _table(config, replace(decoded, images=columns), "Digits as a table (scikit-learn)", bundled=True)


def _digits() -> Source:
    """Load 1,797 handwritten digits of 8 × 8 pixels. Their 17 levels are scaled to a byte."""
    decoded = _read_digits()
    pixels = (decoded.images.astype(np.int64) * 255 + 8) // 16
    decoded = replace(decoded, images=pixels.astype(np.uint8))
    return _source(decoded, "Digits (scikit-learn)", (DIGITS_MEAN, DIGITS_STD), bundled=True)


def _read_digits() -> DecodedImages:
    """Read the numbers 0 … 16 from scikit-learn's file, [1797, 8, 8, 1]; importing ``sklearn`` takes a second."""
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",", dtype=np.uint8)
    return DecodedImages(
        images=rows[:, :64].reshape(-1, 8, 8, 1),
        labels=rows[:, 64].astype(np.int64),
        class_names=tuple(map(str, range(10))),
        num_test=0,
    )


def _cifar10(path: Path | None) -> Source:
    if path is None:
        remedy = "name a Parquet copy by source.path or CIFAR10_PARQUET"
        decoded, title = read_cifar(CIFAR10, cache_folder(), remedy=remedy), "CIFAR-10"
    else:
        sets = find_parquet(path)
        decoded = read_parquet(sets.train, sets.test, num_classes=10, notes=sets.notes)
        decoded, title = _with_cifar_shape(decoded, path), _parquet_title([*sets.train, *sets.test], "CIFAR-10")
    return _source(decoded, title, (CIFAR10_MEAN, CIFAR10_STD), class_names=CIFAR10_CLASSES)


def _cifar20(path: Path | None) -> Source:
    """Read CIFAR-100 with the coarse labels as classes, and the fine ones as subclasses."""
    if path is None:
        remedy = "name a Parquet copy by source.path"
        return _source(read_cifar(CIFAR20, cache_folder(), remedy=remedy), "CIFAR-20")
    sets = find_parquet(path)
    columns, files = ("label=coarse_label",), (sets.train, sets.test)
    decoded = read_parquet(*files, num_classes=20, columns=columns, notes=sets.notes)
    sublabels, names = read_other_labels(*files, column="fine_label", num_classes=100)
    decoded = replace(decoded, sublabels=sublabels, subclass_names=names)
    return _source(_with_cifar_shape(decoded, path), "CIFAR-20 (Parquet)")


def _cifar100(path: Path | None) -> Source:
    if path is None:
        remedy = "name a Parquet copy by source.path"
        return _source(read_cifar(CIFAR100, cache_folder(), remedy=remedy), "CIFAR-100")
    sets = find_parquet(path)
    decoded = read_parquet(sets.train, sets.test, num_classes=100, notes=sets.notes)
    return _source(_with_cifar_shape(decoded, path), "CIFAR-100 (Parquet)")


def _with_cifar_shape(decoded: DecodedImages, path: Path) -> DecodedImages:
    if (shape := decoded.images.shape[1:]) != (32, 32, 3):
        raise ValueError(
            f"{path} holds pictures of {shape[1]}×{shape[0]} pixels and {shape[2]} channels, CIFAR has 32×32 and 3: "
            "use source.kind parquet"
        )
    return decoded


def _parquet_title(files: list[Path], name: str) -> str:
    if all(hash_file(file) in CIFAR10_JPEG75_SHA256 for file in files):
        return "CIFAR-10 (JPEG 75)"
    return f"{name} (Parquet)"


def _source(
    decoded: DecodedImages,
    title: str,
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    *,
    class_names: tuple[str, ...] | None = None,
    bundled: bool = False,
) -> Source:
    if len(decoded.class_names) < 2:
        raise ValueError(f"{title} has {len(decoded.class_names)} class: a classifier needs at least 2")
    count = len(decoded.labels)
    # from the training examples only
    mean, std = moments or _channel_moments(decoded.images[: count - decoded.num_test])
    return Source(
        images=decoded.images,
        labels=decoded.labels,
        num_classes=len(decoded.class_names),
        class_names=class_names or decoded.class_names,
        title=title,
        bundled=bundled,
        test=np.arange(count - decoded.num_test, count) if decoded.num_test else None,
        mean=mean,
        std=std,
        sublabels=decoded.sublabels,
        subclass_names=decoded.subclass_names,
        ids=decoded.ids,
        jpegs=decoded.jpegs,
        notes=decoded.notes,
    )


def shape_of_input(images: np.ndarray) -> tuple[int, ...]:
    """Return the shape of an example as a model takes it.

    Examples:
        >>> shape_of_input(np.zeros((9, 28, 30, 3), np.uint8)), shape_of_input(np.zeros((9, 5), np.float32))
        ((3, 28, 30), (5,))
    """
    if holds_features(images):
        return images.shape[1:]
    _, height, width, channels = images.shape
    return channels, height, width


def _channel_moments(
    images: UInt8[np.ndarray, "examples height width channels"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute each channel's mean and deviation as fractions of 255, from counts, so that the order does not matter."""
    values = np.arange(256) / 255
    counts = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), 1024):  # bincount widens its input eightfold
        for channel, pixels in enumerate(np.moveaxis(images[start : start + 1024], 3, 0)):
            counts[channel] += np.bincount(pixels.reshape(-1), minlength=256)
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt(np.sum(shares * (values - means[:, None]) ** 2, axis=1))
    # A constant channel is divided by 1 and becomes 0.
    return tuple(means.tolist()), tuple(np.where(deviations > 0, deviations, 1.0).tolist())
