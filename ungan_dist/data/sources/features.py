"""Tables of features: exact floats, their memory, and the statistics that standardise them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, Shaped

from ungan_dist.data.memory import get_memory_limit
from ungan_dist.files import format_bytes

_COPIES = 3
"""Copies of the values while they are read, each of at most eight bytes."""
_BATCH = 1 << 22
"""Values to standardise at a time."""
_COARSE = 2.0**-10
"""Distance of neighbouring float32 numbers, in standard deviations, from which a mean is no longer rounded to one."""
_REMEDY = "encode categories as columns of 0 and 1 (pandas.get_dummies), and dates as numbers"


def check_memory(place: str, num_values: int, num_bytes: int = 0) -> None:
    """Refuse values that do not fit in memory, before they are read.

    Args:
        place: Where they are from, for messages.
        num_values: Number of features.
        num_bytes: Bytes of everything that is read, labels and ids included.

    Raises:
        ValueError: They do not.
    """
    needed, limit = _COPIES * max(8 * num_values, num_bytes), get_memory_limit("cpu")
    if needed > limit:
        raise ValueError(
            f"{place}: reading {num_values:,} values takes {format_bytes(needed)} of memory, and this process may use "
            f"{format_bytes(limit)}: keep fewer examples or features"
        )


def to_exact_floats(values: Shaped[np.ndarray, "rows ..."], place: str) -> Float[np.ndarray, "rows ..."]:
    """Convert numbers to float32 if that holds each of them exactly, else to float64.

    Args:
        values: The numbers.
        place: Where they are from, for messages.

    Raises:
        ValueError: They are no numbers, are not finite, or are integers that a float64 cannot hold.

    Examples:
        >>> to_exact_floats(np.array([1, 2**24]), "x").dtype, to_exact_floats(np.array([1, 2**24 + 1]), "x").dtype
        (dtype('float32'), dtype('float64'))
    """
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{place} holds {values.dtype}, features must be integers, floats or booleans: {_REMEDY}")
    wide = values.astype(np.float64)
    broken = np.argwhere(~np.isfinite(wide))
    if len(broken):
        row, *feature = map(int, broken[0])
        at = f", feature {', '.join(map(str, feature))}" if feature else ""
        raise ValueError(
            f"{place}, row {row}{at}: the value is {wide[tuple(broken[0])]}. Put a number in its place, such as the "
            f"mean of the column, or drop the row ({len(broken):,} values are not finite)"
        )
    largest = float(np.abs(wide).max(initial=0))
    if largest >= (2**53 if values.dtype.kind in "iu" else float(np.finfo(np.float32).max)):
        raise ValueError(f"{place}: {largest:g} is too large for a feature: scale the column, or leave it out")
    narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide) else wide


def concatenate(parts: Sequence[Float[np.ndarray, "_ ..."]]) -> Float[np.ndarray, "rows ..."]:
    """Concatenate parts of a data set along the examples, in the wider of their types."""
    return np.ascontiguousarray(np.concatenate(parts)) if len(parts) > 1 else np.ascontiguousarray(parts[0])


def find_label_copy(values: Float[np.ndarray, "rows ..."], labels: Int64[np.ndarray, " rows"]) -> int | None:
    """Find a column of a table that equals the labels.

    Examples:
        >>> find_label_copy(np.array([[5.0, 0.0], [7.0, 1.0]]), np.array([0, 1]))
        1
    """
    if values.ndim != 2:
        return None
    candidates = np.flatnonzero((values[:100] == labels[:100, None]).all(0))
    return next((int(place) for place in candidates if np.array_equal(values[:, place], labels)), None)


def check_unscaled(values: Float[np.ndarray, "rows ..."], place: str) -> None:
    """Refuse integers that would lose digits in a model's float32.

    Raises:
        ValueError: There are such.
    """
    for feature in range(values.shape[1]):
        own = values[:, feature]
        if np.array_equal(own, np.rint(own)) and not np.array_equal(own, own.astype(np.float32)):
            raise ValueError(
                f"{place}: feature {feature} holds integers beyond 2²⁴, which lose digits in float32: leave out "
                f"--source.no-standardise, or scale them"
            )


def measure_moments(values: Float[np.ndarray, "rows ..."]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation along the second axis: of each column of a table, or of each channel.

    Both are rounded to float32, so that they do not depend on the order in which a machine adds. Where this is coarse
    beside the deviation, the distance of the mean from the first value is rounded instead. A constant has deviation 1,
    so that it becomes 0.

    Examples:
        >>> measure_moments(np.array([[1.0, 5.0], [3.0, 5.0]]))
        ((2.0, 5.0), (1.0, 1.0))
    """
    means: list[float] = []
    deviations: list[float] = []
    for place in range(values.shape[1]):
        own = values[:, place].astype(np.float64)
        is_constant = own.min() == own.max()
        start = float(own.flat[0])
        mean = np.float32(own.mean())
        deviation = 1.0 if is_constant else float(np.float32(own.std())) or 1.0
        if is_constant:
            means.append(start)
        elif np.spacing(abs(mean)) > deviation * _COARSE:
            means.append(start + float(np.float32((own - start).mean())))
        else:
            means.append(float(mean))
        deviations.append(deviation)
    return tuple(means), tuple(deviations)


def standardise(
    values: Float[np.ndarray, "rows ..."], mean: Sequence[float], std: Sequence[float]
) -> Float[np.ndarray, "rows ..."]:
    """Compute ``(value − mean) / std`` along the second axis, rounded once to float32.

    Args:
        values: Features as they were read.
        mean: Mean of each column or channel; none at all leaves the values as they are.
        std: Standard deviation, likewise.
    """
    if not mean:
        return values.astype(np.float32)
    shape = (1, -1, *(1 for _ in values.shape[2:]))
    means, deviations = (np.asarray(one, np.float64).reshape(shape) for one in (mean, std))
    result = np.empty(values.shape, np.float32)
    step = max(1, _BATCH // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), step):
        some = slice(start, start + step)
        result[some] = (values[some] - means) / deviations
    return result


def holds_features(images: Any) -> bool:
    """Return whether an array or a tensor holds features, which are floats, and not the uint8 pixels of pictures."""
    return "float" in str(getattr(images, "dtype", ""))
