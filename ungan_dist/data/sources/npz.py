"""Read features, labels and ids from the named arrays of an ``.npz`` file, never by pickle."""

from __future__ import annotations

import contextlib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ungan_dist.data.sources.columns import Role, parse_columns
from ungan_dist.data.sources.decode import DecodedImages
from ungan_dist.data.sources.features import check_memory, concatenate, find_label_copy, to_exact_floats
from ungan_dist.data.sources.labels import number_labels
from ungan_dist.files import format_bytes

ROLES: tuple[Role, ...] = ("features", "label", "id", "test_features", "test_label", "test_id")
_KNOWN: dict[Role, tuple[str, ...]] = {
    "features": ("x", "X", "features", "x_train", "X_train"),
    "label": ("y", "label", "labels", "y_train"),
    "id": ("id", "ids", "id_train"),
    "test_features": ("x_test", "X_test", "test_features"),
    "test_label": ("y_test", "label_test", "test_label", "test_labels"),
    "test_id": ("id_test", "ids_test", "test_id", "test_ids"),
}
"""Names of each array, unless ``source.columns`` names it."""
_KIND_OF_ID = "iuU"
_MAX_TEXT_BYTES = 1 << 14
"""Longest label or id: 4,096 characters, the longest path of Linux."""
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError, NotImplementedError),
    *(SyntaxError, tokenize.TokenError, TypeError),
)
"""What zipfile and NumPy raise for a file that is damaged, encrypted or none of theirs."""


@dataclass(frozen=True, kw_only=True)
class _Array:
    """An array of a file, as its header declares it."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def file(self) -> str:
        return f"{self.path}, array {self.name}"

    @property
    def num_rows(self) -> int:
        return self.shape[0]

    @property
    def words(self) -> str:
        return f"{self.name} ({self.dtype}, {'×'.join(map(str, self.shape)) or 'one number'})"

    def read(self) -> Shaped[np.ndarray, "rows ..."]:
        with _refuse_damage(self.path), zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def read_npz(path: Path, *, columns: Sequence[str] = ()) -> DecodedImages:
    """Read every example of a file; its test examples come last.

    Args:
        path: The file.
        columns: Names of arrays, such as ``features=X``; by default the usual ones.

    Raises:
        ValueError: The file is damaged, or an array in it is absent, has no usable type or shape, holds values that
            are not finite, or does not fit in memory.
    """
    chosen = parse_columns(columns, ROLES)
    arrays = _read_headers(path)
    found: dict[Role, _Array | None] = {role: _find(path, arrays, role, chosen) for role in ROLES}
    train = [_require(path, arrays, found, role) for role in ("features", "label")]
    has_test = any(found[role] for role in ("test_features", "test_label", "test_id"))
    test = [_require(path, arrays, found, role) for role in ("test_features", "test_label")] if has_test else []
    features, labels = [*train[:1], *test[:1]], [*train[1:], *test[1:]]
    for array, label in zip(features, labels, strict=True):
        _check_shapes(array, label)
    if test and train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{path} holds {train[0].words} and {test[0].words}: give training and test examples the same features"
        )
    for array in [*labels, *(array for array in (found["id"], found["test_id"]) if array)]:
        if array.dtype.itemsize > _MAX_TEXT_BYTES:
            raise ValueError(
                f"{path} holds {array.words}, of {format_bytes(array.dtype.itemsize)} each: save shorter texts, or "
                f"numbers"
            )
    num_bytes = sum(math.prod(array.shape) * max(8, array.dtype.itemsize) for array in found.values() if array)
    check_memory(str(path), sum(math.prod(array.shape) for array in features), num_bytes)
    values = concatenate([to_exact_floats(array.read(), array.file) for array in features])
    names = ("False", "True") if all(label.dtype.kind == "b" for label in labels) else ()
    read = [_read_labels(label) for label in labels]
    numbers, class_names = number_labels(labels, read, num_train=1, names=names)
    if (copy := find_label_copy(values, numbers)) is not None:
        raise ValueError(
            f"{features[0].file}: feature {copy} equals the labels, which a model must not see: leave it out"
        )
    ids = _read_ids(path, [found["id"], *([found["test_id"]] if test else [])], features)
    num_test = test[0].num_rows if test else 0
    return DecodedImages(images=values, labels=numbers, class_names=class_names, num_test=num_test, ids=ids)


def _read_headers(path: Path) -> dict[str, _Array]:
    """Read the headers of all arrays; their values stay compressed."""
    found: dict[str, _Array] = {}
    with _refuse_damage(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in found:
                raise ValueError(f"it holds {member.filename}" + (" twice" if name in found else ", which is no array"))
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                start = file.tell()
            # before any memory is taken; NumPy itself would allocate what the header declares
            is_whole = member.file_size == start + math.prod(shape) * dtype.itemsize
            if not dtype.hasobject and (min(shape, default=0) < 0 or not is_whole):
                raise ValueError(f"{member.filename} is not as long as its header declares")
            found[name] = _Array(path=path, name=name, shape=shape, dtype=dtype)
    return found


@contextlib.contextmanager
def _refuse_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no complete .npz file ({reason}): write it with numpy.savez") from error


def _find(path: Path, arrays: dict[str, _Array], role: Role, chosen: dict[Role, str]) -> _Array | None:
    there = [name for name in ((chosen[role],) if role in chosen else _KNOWN[role]) if name in arrays]
    if role in chosen and not there:
        raise ValueError(f"{path} has no array called {chosen[role]}: it has {_list(arrays)}")
    if len(there) > 1:
        raise ValueError(
            f"{path} holds {' and '.join(there)}, which may each be the {role}: name the one that is meant with "
            f"--source.columns {role}=NAME"
        )
    return arrays[there[0]] if there else None


def _require(path: Path, arrays: dict[str, _Array], found: dict[Role, _Array | None], role: Role) -> _Array:
    array = found[role]
    if array is None:
        raise ValueError(
            f"{path} has no array called {' or '.join(_KNOWN[role])}: it has {_list(arrays)}. Name the {role} with "
            f"--source.columns {role}=NAME"
        )
    if array.dtype.hasobject:
        raise ValueError(
            f"{array.file} holds Python objects, which are read by pickle alone, and a pickle may run code: save "
            f"numbers, for example with .astype(np.float32), and texts with .astype(str)"
        )
    return array


def _list(arrays: dict[str, _Array]) -> str:
    return ", ".join(array.words for array in arrays.values()) or "none"


def _check_shapes(features: _Array, label: _Array) -> None:
    if len(label.shape) != 1:
        is_column = len(label.shape) == 2 and label.shape[1] == 1
        raise ValueError(
            f"{label.path} holds {label.words}: labels need one number each. "
            f"Save {label.name}.{'ravel()' if is_column else 'argmax(1), if these are one-hot labels'}"
        )
    if len(features.shape) < 2 or not math.prod(features.shape):
        remedy = f"save {features.name}[:, None]" if len(features.shape) == 1 else "save at least one of each"
        raise ValueError(f"{features.path} holds {features.words}: examples × features are needed. {remedy}")
    if features.num_rows != label.num_rows:
        raise ValueError(
            f"{features.path} holds {features.words} and {label.words}: give each example one label, in the same order"
        )


def _read_labels(array: _Array) -> np.ndarray:
    if array.dtype.kind not in "biuU":
        is_float = array.dtype.kind == "f"
        if is_float and len(missing := np.flatnonzero(~np.isfinite(array.read()))):
            raise ValueError(
                f"{array.file}, row {missing[0]}: the label is missing: give it one, or drop the row "
                f"({len(missing):,} labels are missing)"
            )
        remedy = ".astype(int)" if is_float else ".astype(str)"
        raise ValueError(
            f"{array.file} holds {array.dtype}, labels must be integers from 0 on or text: save {array.name}{remedy}"
        )
    labels = array.read()
    if array.dtype.kind == "u" and labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{array.file}: label {labels.max()} is out of range: number the classes 0, 1, 2 …")
    return labels if array.dtype.kind == "U" else labels.astype(np.int64)


def _read_ids(path: Path, arrays: Sequence[_Array | None], features: Sequence[_Array]) -> tuple[str, ...] | None:
    if all(array is None for array in arrays):
        return None
    ids: list[str] = []
    for array, own in zip(arrays, features, strict=True):
        if array is None:
            raise ValueError(f"{path} has ids for a part of the examples: give them to {own.words} too, or to none")
        if array.dtype.hasobject or array.dtype.kind not in _KIND_OF_ID or array.shape != (own.num_rows,):
            raise ValueError(
                f"{path} holds {array.words}: ids must be strings or integers, one for each example of {own.words}"
            )
        ids += map(str, array.read())
    return tuple(ids)
