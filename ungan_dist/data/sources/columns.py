"""Choose the columns of Parquet files, and read labels and ids from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ungan_dist.data.sources.labels import number_labels

Role = Literal["image", "features", "label", "id", "test_features", "test_label", "test_id"]
ROLES: tuple[Role, ...] = ("image", "label", "id")
"""What the columns of a Parquet file with pictures can be."""
TABLE_ROLES: tuple[Role, ...] = ("label", "id")
"""Likewise with features: every other column is one."""
_KNOWN: dict[Role, tuple[str, ...]] = {"image": ("img", "image"), "label": ("label", "fine_label")}


@dataclass(frozen=True, kw_only=True)
class Table:
    """An open file of a set."""

    file: Path
    parquet: pq.ParquetFile

    @property
    def names(self) -> list[str]:
        return self.parquet.schema_arrow.names

    @property
    def num_rows(self) -> int:
        return self.parquet.metadata.num_rows

    def type_of(self, column: str) -> pa.DataType:
        return self.parquet.schema_arrow.field(column).type

    def read(self, column: str) -> pa.Array:
        """Read a whole column."""
        try:
            found = self.parquet.read(columns=[column])[column].combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise damage_error(self.file, error) from error
        return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def damage_error(file: Path, error: Exception) -> ValueError:
    """Make the error of a file that cannot be read."""
    reason = str(error).strip().rstrip(".")
    return ValueError(f"{file} is no complete Parquet file ({reason}): copy or download it again")


def parse_columns(columns: Sequence[str], roles: Sequence[Role] = ROLES) -> dict[Role, str]:
    """Read ``("image=photo", "label=breed")`` as names of columns by role.

    Raises:
        ValueError: An entry has another form, or a role is unknown or repeated.

    Examples:
        >>> parse_columns(("image=photo", "label=breed"))
        {'image': 'photo', 'label': 'breed'}
    """
    found: dict[Role, str] = {}
    for entry in columns:
        role, equals, name = entry.partition("=")
        known: Role | None = next((known for known in roles if known == role.strip()), None)
        if known is None or not equals or not name or known in found:
            raise ValueError(
                f"source.columns must be like {_example(roles)}, each of {', '.join(roles)} at most once; "
                f"got {','.join(columns)}"
            )
        found[known] = name
    return found


def _example(roles: Sequence[Role]) -> str:
    names: dict[Role, str] = {"image": "photo", "features": "x", "label": "breed", "id": "key"}
    return ",".join(f"{role}={names[role]}" for role in roles if role in names)


def find_column(table: Table, role: Role, chosen: dict[Role, str]) -> str:
    """Return the name of the column with pictures or labels.

    Raises:
        ValueError: The file has no such column.
    """
    names = (chosen[role],) if role in chosen else _KNOWN[role]
    for name in names:
        if name in table.names:
            return name
    raise ValueError(
        f"{table.file} has no column called {' or '.join(names)}, but {', '.join(table.names) or 'none'}: name the one "
        f"that holds each {role} with --source.columns {role}=NAME"
    )


def read_ids(tables: list[Table], chosen: dict[Role, str]) -> tuple[str, ...] | None:
    """Read the column of ids as text, if the files have one.

    Only integers and strings are ids: a list would not contain the text of another type ("5.0", "None").
    """
    found = [(table, find_id_column(table, chosen)) for table in tables]
    if all(name is None for _, name in found):
        return None
    ids: list[str] = []
    for table, name in found:
        if name is None:
            with_ids = next(other.file for other, name in found if name is not None)
            raise ValueError(f"{table.file} has no column id, {with_ids} has one: give it to every file, or to none")
        kind = table.type_of(name)
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_integer(values) or _is_text(values)):
            raise ValueError(
                f"{table.file}: column {name} holds {kind}, ids must be strings or integers: cast it, or rename the "
                f"column if it does not name examples"
            )
        column = table.read(name).to_pylist()
        if None in column:
            raise ValueError(
                f"{table.file}, row {column.index(None)}: the id (column {name}, {kind}) is missing: give it one, drop "
                f"the row, or rename the column if it does not name examples"
            )
        ids += map(str, column)
    return tuple(ids)


def find_id_column(table: Table, chosen: dict[Role, str]) -> str | None:
    """Find the chosen column of ids, or else the column ``id``, in any case."""
    if "id" in chosen:
        return find_column(table, "id", chosen)
    names = ["id"] if "id" in table.names else [name for name in table.names if name.lower() == "id"]
    if len(names) > 1:
        raise ValueError(
            f"{table.file} has columns {' and '.join(names)}: name the one that holds ids with --source.columns id=NAME"
        )
    return names[0] if names else None


def read_labels(
    train: list[Table], test: list[Table], chosen: dict[Role, str], num_classes: int | None
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    """Read the labels and the names of the classes.

    Integers are labels as they are. Booleans are two classes. Texts are classes in alphabetical order.

    Args:
        train: Files of the training set.
        test: Files of the test set.
        chosen: Names of columns by role.
        num_classes: Number of classes; defaults to that of the files' metadata, else of the labels.

    Raises:
        ValueError: a label is missing, of another type, or out of range, or a class is in the test set alone.
    """
    tables = [*train, *test]
    columns = [find_column(table, "label", chosen) for table in tables]
    arrays = [_label_array(table, column) for table, column in zip(tables, columns, strict=True)]
    return number_labels(
        tables, arrays, num_train=len(train), num_classes=num_classes, names=_class_names(tables[0], columns[0])
    )


def _label_array(table: Table, name: str) -> np.ndarray:
    kind = table.type_of(name)
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_number = pa.types.is_integer(values) or pa.types.is_boolean(values)
    if pa.types.is_floating(values):
        column = table.read(name)
        missing = column.is_null(nan_is_null=not pa.types.is_dictionary(kind)).to_pylist()
        if any(missing):
            raise _missing_label(table, missing.index(True))
    if not is_number and not _is_text(values):
        remedy = "cast it to integers" if pa.types.is_floating(values) else "name another with --source.columns label="
        raise ValueError(
            f"{table.file}: column {name} holds {kind}, labels must be integers from 0 on or text: {remedy}"
        )
    column = table.read(name)
    if column.null_count:
        raise _missing_label(table, column.is_null().to_pylist().index(True))
    if _is_text(values):
        return np.array(column.to_pylist(), dtype=np.str_)
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def _missing_label(table: Table, row: int) -> ValueError:
    return ValueError(f"{table.file}, row {row}: the label is missing: give it one, or drop the row")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _class_names(table: Table, column: str) -> tuple[str, ...]:
    """Read the class names in the metadata that the library datasets writes; empty if there are none."""
    if pa.types.is_boolean(table.type_of(column)):
        return ("False", "True")
    note = (table.parquet.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features: Any = json.loads(note or b"{}")["info"]["features"]
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, names))
