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

Role = Literal["image", "label", "id"]
ROLES: tuple[Role, ...] = ("image", "label", "id")
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


def parse_columns(columns: Sequence[str]) -> dict[Role, str]:
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
        known: Role | None = next((known for known in ROLES if known == role.strip()), None)
        if known is None or not equals or not name or known in found:
            raise ValueError(
                f"source.columns must be like image=photo,label=breed,id=key, each of {', '.join(ROLES)} at most once; "
                f"got {','.join(columns)}"
            )
        found[known] = name
    return found


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
    found = [(table, _id_column(table, chosen)) for table in tables]
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


def _id_column(table: Table, chosen: dict[Role, str]) -> str | None:
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
    kinds = {"text" if array.dtype.kind == "U" else "number" for array in arrays}
    if len(kinds) > 1:
        raise ValueError(f"{tables[0].file} and the files beside it hold texts and numbers as labels: cast one of them")
    if kinds == {"text"}:
        return _number_texts(tables, arrays, num_train=len(train), num_classes=num_classes)
    labels = np.concatenate(arrays).astype(np.int64)
    names = _class_names(tables[0], columns[0])
    _check_labels(tables, labels, num_classes or len(names) or None)
    num_classes = num_classes or len(names) or int(labels.max()) + 1
    return labels, names if len(names) == num_classes else tuple(str(label) for label in range(num_classes))


def _label_array(table: Table, name: str) -> np.ndarray:
    kind = table.type_of(name)
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_number = pa.types.is_integer(values) or pa.types.is_boolean(values)
    if not is_number and not _is_text(values):
        remedy = "cast it to integers" if pa.types.is_floating(values) else "name another with --source.columns label="
        raise ValueError(
            f"{table.file}: column {name} holds {kind}, labels must be integers from 0 on or text: {remedy}"
        )
    column = table.read(name)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise ValueError(f"{table.file}, row {row}: the label is missing: give it one, or drop the row")
    if _is_text(values):
        return np.array(column.to_pylist(), dtype=np.str_)
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _number_texts(
    tables: list[Table], arrays: list[np.ndarray], *, num_train: int, num_classes: int | None
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    if num_classes is not None:
        raise ValueError(
            f"{tables[0].file} holds texts as labels, and this data set has numbers: use source.kind parquet"
        )
    names = sorted({str(word) for array in arrays[:num_train] for word in array})
    numbers = {word: number for number, word in enumerate(names)}
    for table, array in zip(tables, arrays, strict=True):
        for row, word in enumerate(array):
            if word not in numbers:
                known = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
                raise ValueError(
                    f"{table.file}, row {row}: {str(word)!r} is a class that training lacks: it has {known}"
                )
    return np.array([numbers[word] for array in arrays for word in array], np.int64), tuple(names)


def _check_labels(tables: list[Table], labels: Int64[np.ndarray, " rows"], num_classes: int | None) -> None:
    """Check that labels lie in [0, num_classes). If only the labels define the classes, each must occur."""
    limit = int(labels.max()) + 1 if num_classes is None else num_classes
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    if len(wrong):
        row = int(wrong[0])
        label = labels[row]
        hint = ". Labels of −1 mark a set without labels: remove that set" if label == -1 else ""
        for table in tables:
            if row < table.num_rows:
                raise ValueError(
                    f"{table.file}, row {row}: label {label} is out of range, must be 0 … {max(limit - 1, 0)}{hint}"
                )
            row -= table.num_rows
    present = np.unique(labels)
    if num_classes is None and len(present) < limit:
        absent = int(np.argmax(present != np.arange(len(present))))
        raise ValueError(
            f"{tables[0].file}: no row has label {absent}, though labels go up to {limit - 1}: "
            "number the classes 0, 1, 2 … without a gap"
        )


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
