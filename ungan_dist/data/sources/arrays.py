"""Read examples that are no pictures: the arrays of an ``.npz`` file, or the columns of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from ungan_dist.data.sources.columns import (
    TABLE_ROLES,
    Role,
    Table,
    find_column,
    find_id_column,
    parse_columns,
    read_ids,
    read_labels,
)
from ungan_dist.data.sources.decode import DecodedImages
from ungan_dist.data.sources.features import check_memory, concatenate, find_label_copy, to_exact_floats
from ungan_dist.data.sources.layout import identify_file
from ungan_dist.data.sources.npz import read_npz
from ungan_dist.data.sources.parquet import find_parquet, open_table, refuse_other_format

ROW_NUMBERS = ("__index_level_0__", "Unnamed: 0")
"""Columns that pandas writes for the number of a row, which is no property of the example."""


LABEL_NAMES = ("label", "labels", "fine_label", "coarse_label")
"""Columns that hold labels; beside the labels that are read, such a column is no feature."""


def read_arrays(path: Path, *, columns: Sequence[str] = ()) -> DecodedImages:
    """Read features and labels: of an ``.npz`` file, or of a Parquet file or folder as ``find_parquet`` finds it.

    Args:
        path: The file or folder.
        columns: Names of arrays or columns by role, such as ``label=income``.

    Raises:
        ValueError: the path does not exist or is another file, or see ``read_npz`` and ``read_table``.
    """
    if path.is_dir():
        return read_table(path, columns=columns)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: source.path must name an .npz file, or Parquet")
    with path.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(b"PK"):
        return read_npz(path, columns=columns)
    if head == b"PAR1" or identify_file(path) == "a Git LFS pointer":
        return read_table(path, columns=columns)
    refuse_other_format(path)
    raise ValueError(f"{path} is neither an .npz file nor Parquet, though its name says so: write it again")


def read_table(path: Path, *, columns: Sequence[str] = ()) -> DecodedImages:
    """Read Parquet whose columns are features, but for the label and the id; test examples come last.

    Raises:
        ValueError: a file is damaged, files have different columns, or a column holds no numbers or has gaps.
    """
    sets = find_parquet(path)
    chosen = parse_columns(columns, TABLE_ROLES)
    tables = [open_table(file) for file in [*sets.train, *sets.test]]
    counts = [table.num_rows for table in tables]
    if not sum(counts[: len(sets.train)]):
        raise ValueError(f"{', '.join(map(str, sets.train))} holds no row: at least one is needed")
    features = [_feature_columns(table, chosen) for table in tables]
    for table, names in zip(tables, features, strict=True):
        if set(names) != set(features[0]):
            own = ", ".join(sorted(set(names) ^ set(features[0])))
            raise ValueError(f"{table.file} and {tables[0].file} differ in the columns {own}: give both the same")
    check_memory(str(path), sum(counts) * len(features[0]))
    labels, class_names = read_labels(tables[: len(sets.train)], tables[len(sets.train) :], chosen, None)
    values = concatenate([_read_features(table, features[0]) for table in tables])
    if (copy := find_label_copy(values, labels)) is not None:
        raise ValueError(
            f"{tables[0].file}: column {features[0][copy]} equals the labels, which a model must not see: drop it"
        )
    return DecodedImages(
        images=values,
        labels=labels,
        class_names=class_names,
        num_test=sum(counts[len(sets.train) :]),
        ids=read_ids(tables, chosen),
        notes=tuple(sets.notes),
    )


def is_table(path: Path) -> bool:
    """Return whether a Parquet file or folder holds numbers alone, beside texts, and thus no pictures."""
    sets = find_parquet(path)
    table = open_table(sets.train[0])
    kinds = [table.type_of(name) for name in table.names]
    return not any(
        pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in kinds
    )


def _feature_columns(table: Table, chosen: dict[Role, str]) -> list[str]:
    others = (find_column(table, "label", chosen), find_id_column(table, chosen))
    names = [name for name in table.names if name not in others]
    if not names:
        raise ValueError(f"{table.file} has no column beside {others[0]}: at least one feature is needed")
    if numbers := [name for name in names if name in ROW_NUMBERS]:
        raise ValueError(
            f"{table.file}: column {numbers[0]} holds the numbers of the rows, which a model must not learn: write the "
            f"file with to_parquet(FILE, index=False), or drop the column"
        )
    if like := [name for name in names if name.lower() in LABEL_NAMES]:
        raise ValueError(
            f"{table.file}: column {like[0]} is named as labels, beside the labels {others[0]}: drop it, rename it if "
            f"it is a feature, or choose it with --source.columns label={like[0]} and drop {others[0]}"
        )
    return names


def _read_features(table: Table, names: Sequence[str]) -> Float[np.ndarray, "rows columns"]:
    columns = [_read_column(table, name) for name in names]
    values = np.empty((table.num_rows, len(names)), np.result_type(*columns))
    for place, column in enumerate(columns):
        values[:, place] = column
    return values


def _read_column(table: Table, name: str) -> Float[np.ndarray, " rows"]:
    place, column = f"{table.file}: column {name}", table.read(name)
    if pa.types.is_null(column.type) or column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise ValueError(
            f"{place}, row {row}: the value is missing. Put a number in its place, such as the mean of the column, or "
            f"drop the row ({column.null_count:,} values are missing)"
        )
    is_number = (
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    )
    if not is_number:
        raise ValueError(
            f"{place} holds {column.type}, features must be integers, floats or booleans. Encode categories as columns "
            f"of 0 and 1 (pandas.get_dummies) and dates as numbers, or drop the column"
        )
    return to_exact_floats(column.to_numpy(zero_copy_only=False), place)
