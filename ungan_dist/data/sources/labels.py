"""Number the labels of a data set: integers as they are, texts in alphabetical order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64


@runtime_checkable
class Part(Protocol):
    """A part of a data set whose rows have numbers of their own."""

    @property
    def file(self) -> Path | str: ...

    @property
    def num_rows(self) -> int: ...


def number_labels(
    parts: Sequence[Part],
    arrays: Sequence[np.ndarray],
    *,
    num_train: int,
    num_classes: int | None = None,
    names: tuple[str, ...] = (),
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    """Number labels, and name their classes.

    Args:
        parts: The parts of the data set.
        arrays: Integers or texts, for each part.
        num_train: Parts of the training set, which come first.
        num_classes: Number of classes; defaults to that of the names, else of the labels.
        names: Names of the classes, where the data have some.

    Raises:
        ValueError: A label is out of range, or a class is in the test set alone.
    """
    kinds = {"text" if array.dtype.kind == "U" else "number" for array in arrays}
    if len(kinds) > 1:
        raise ValueError(f"{parts[0].file} and what is beside it hold texts and numbers as labels: cast one of them")
    if kinds == {"text"}:
        return _number_texts(parts, arrays, num_train=num_train, num_classes=num_classes)
    labels = np.concatenate(arrays).astype(np.int64)
    _check_range(parts, labels, num_classes or len(names) or None)
    num_classes = num_classes or len(names) or int(labels.max()) + 1
    return labels, names if len(names) == num_classes else tuple(str(label) for label in range(num_classes))


def _number_texts(
    parts: Sequence[Part], arrays: Sequence[np.ndarray], *, num_train: int, num_classes: int | None
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    if num_classes is not None:
        raise ValueError(
            f"{parts[0].file} holds texts as labels, and this data set has numbers: use source.kind parquet"
        )
    names = sorted({str(word) for array in arrays[:num_train] for word in array})
    numbers = {word: number for number, word in enumerate(names)}
    for part, array in zip(parts, arrays, strict=True):
        for row, word in enumerate(array):
            if word not in numbers:
                known = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
                raise ValueError(
                    f"{part.file}, row {row}: {str(word)!r} is a class that training lacks: it has {known}"
                )
    return np.array([numbers[word] for array in arrays for word in array], np.int64), tuple(names)


def _check_range(parts: Sequence[Part], labels: Int64[np.ndarray, " rows"], num_classes: int | None) -> None:
    """Check that labels lie in [0, num_classes). If only the labels define the classes, each must occur."""
    limit = int(labels.max()) + 1 if num_classes is None else num_classes
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    if len(wrong):
        row = int(wrong[0])
        label = labels[row]
        hint = "number the classes 0, 1, 2 …, for example with numpy.unique(labels, return_inverse=True)"
        if num_classes is not None:
            hint = "correct it, drop the row, or name its class too"
        if label == -1:
            hint += ". If labels of −1 mark a set without labels, remove that set"
        for part in parts:
            if row < part.num_rows:
                raise ValueError(
                    f"{part.file}, row {row}: label {label} is out of range, must be 0 … {max(limit - 1, 0)}: {hint}"
                )
            row -= part.num_rows
    present = np.unique(labels)
    if num_classes is None and len(present) < limit:
        absent = int(np.argmax(present != np.arange(len(present))))
        raise ValueError(
            f"{parts[0].file}: no row has label {absent}, though labels go up to {limit - 1}: "
            "number the classes 0, 1, 2 … without a gap"
        )
