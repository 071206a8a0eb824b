"""Read pictures from Parquet in the Hugging Face image layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ungan_dist.data.sources.decode import DecodedImages, decode

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")


def parquet_files(path: Path) -> tuple[list[Path], list[Path]]:
    """List training and test files: ``train*.parquet`` and ``test*.parquet`` of a folder, or a single file.

    Raises:
        ValueError: The path does not exist, or the folder has no training files.
    """
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise ValueError(
            f"{path} does not exist: source.path (for CIFAR-10 also CIFAR10_PARQUET) must name a Parquet file, "
            "or a folder with train*.parquet"
        )
    train, test = sorted(path.glob("train*.parquet")), sorted(path.glob("test*.parquet"))
    if not train:
        raise ValueError(f"{path} holds no train*.parquet: name a folder with such files")
    return train, test


def read_parquet(train: list[Path], test: list[Path], *, num_classes: int | None = None) -> DecodedImages:
    """Read every row of the files, in order.

    Args:
        num_classes: Number of classes; defaults to that of the files' metadata, else of the labels.

    Raises:
        ValueError: a file that is damaged or lacks a column, a row without a picture or label, a picture that cannot
            be decoded, a label out of range, or a column ``id`` that holds no ids.
    """
    tables = [_open(file) for file in [*train, *test]]
    counts = [table.metadata.num_rows for table in tables]
    files = list(zip([*train, *test], tables, strict=True))
    if not sum(counts):
        raise ValueError(f"{', '.join(map(str, train))} holds no row: at least one is needed")
    labels = np.concatenate([_labels(file, table) for file, table in files])
    names = _class_names(tables[0])
    _check_labels(files, labels, num_classes or len(names) or None)
    num_classes = num_classes or len(names) or int(labels.max()) + 1
    pictures = (picture for file, table in files for picture in _encoded(file, table))
    images, jpegs = decode(pictures, sum(counts))
    return DecodedImages(
        images=images,
        labels=labels,
        class_names=names if len(names) == num_classes else tuple(str(label) for label in range(num_classes)),
        num_test=sum(counts[len(train) :]),
        ids=_ids(files),
        jpegs=jpegs,
    )


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ValueError:
    reason = str(error).strip().rstrip(".")
    return ValueError(f"{file} is no complete Parquet file ({reason}): copy or download it again")


def _column(file: Path, table: pq.ParquetFile, names: tuple[str, ...]) -> str:
    present = table.schema_arrow.names
    for name in names:
        if name in present:
            return name
    raise ValueError(
        f"{file} has no column called {' or '.join(names)}, but {', '.join(present) or 'none'}: rename the one meant"
    )


def _ids(files: list[tuple[Path, pq.ParquetFile]]) -> tuple[str, ...] | None:
    """Read the column ``id`` as text, if the files have one.

    Only integers and strings are ids: a list would not contain the text of another type ("5.0", "None").
    """
    found = [(file, table, _id_column(file, table)) for file, table in files]
    if all(name is None for _, _, name in found):
        return None
    ids: list[str] = []
    for file, table, name in found:
        if name is None:
            with_ids = next(file for file, _, name in found if name is not None)
            raise ValueError(f"{file} has no column id, {with_ids} has one: give it to every file, or to none")
        kind = table.schema_arrow.field(name).type
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_integer(values) or pa.types.is_string(values) or pa.types.is_large_string(values)):
            raise ValueError(
                f"{file}: column {name} holds {kind}, ids must be strings or integers: cast it, or rename the column "
                f"if it does not name examples"
            )
        try:
            column = table.read(columns=[name])[name].to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error
        if None in column:
            raise ValueError(
                f"{file}, row {column.index(None)}: the id (column {name}, {kind}) is missing: give it one, drop the "
                f"row, or rename the column if it does not name examples"
            )
        ids += map(str, column)
    return tuple(ids)


def _id_column(file: Path, table: pq.ParquetFile) -> str | None:
    """Find the column ``id``, in any case."""
    present = table.schema_arrow.names
    names = ["id"] if "id" in present else [name for name in present if name.lower() == "id"]
    if len(names) > 1:
        raise ValueError(f"{file} has columns {' and '.join(names)}: name the one that holds ids id, and rename others")
    return names[0] if names else None


def _labels(file: Path, table: pq.ParquetFile) -> Int64[np.ndarray, " rows"]:
    name = _column(file, table, LABEL_COLUMNS)
    kind = table.schema_arrow.field(name).type
    if not pa.types.is_integer(kind):
        raise ValueError(f"{file}: column {name} holds {kind}, labels must be integers from 0 on")
    try:
        column = table.read(columns=[name])[name].combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise ValueError(f"{file}, row {row}: the label is missing: give it one, or drop the row")
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def _check_labels(
    files: list[tuple[Path, pq.ParquetFile]], labels: Int64[np.ndarray, " rows"], num_classes: int | None
) -> None:
    """Check that labels lie in [0, num_classes). If only the labels define the classes, each must occur."""
    limit = int(labels.max()) + 1 if num_classes is None else num_classes
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    if len(wrong):
        row = int(wrong[0])
        label = labels[row]
        for file, table in files:
            if row < table.metadata.num_rows:
                raise ValueError(f"{file}, row {row}: label {label} is out of range, must be 0 … {max(limit - 1, 0)}")
            row -= table.metadata.num_rows
    present = np.unique(labels)
    if num_classes is None and len(present) < limit:
        absent = int(np.argmax(present != np.arange(len(present))))
        raise ValueError(
            f"{files[0][0]}: no row has label {absent}, though labels go up to {limit - 1}: "
            "number the classes 0, 1, 2 … without a gap"
        )


def _encoded(file: Path, table: pq.ParquetFile) -> Iterator[tuple[str, bytes]]:
    """Yield each picture's place and bytes."""
    name = _column(file, table, IMAGE_COLUMNS)
    kind = table.schema_arrow.field(name).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise ValueError(f"{file}: column {name} holds {kind}, must hold struct<bytes, path> as datasets writes images")
    row = 0
    batches = table.iter_batches(batch_size=1024, columns=[f"{name}.bytes"])
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error
        if batch is None:
            return
        for content in batch[name].field("bytes").to_pylist():
            where = f"{file}, row {row}"
            if content is None:
                raise ValueError(f"{where}: the picture's bytes are missing: store them in the file, not only the path")
            yield where, content
            row += 1


def _class_names(table: pq.ParquetFile) -> tuple[str, ...]:
    """Read the class names in the metadata that the library datasets writes; empty if there are none."""
    note = (table.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features: Any = json.loads(note or b"{}")["info"]["features"]
        names = next(features[column]["names"] for column in LABEL_COLUMNS if column in features)
    except (ValueError, KeyError, TypeError, StopIteration):
        return ()
    return tuple(map(str, names))
