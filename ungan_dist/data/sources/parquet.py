"""Read pictures from Parquet in the Hugging Face image layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ungan_dist.data.memory import get_memory_limit
from ungan_dist.data.sources.columns import (
    Role,
    Table,
    damage_error,
    find_column,
    parse_columns,
    read_ids,
    read_labels,
)
from ungan_dist.data.sources.decode import DecodedImages, decode
from ungan_dist.data.sources.layout import (
    PICTURES,
    Sets,
    choose_sets,
    identify_file,
    is_side_file,
    name_set,
    walk_files,
)
from ungan_dist.files import format_bytes

SUFFIXES = (".parquet", ".pq", ".parq")
_BUFFER_BYTES = 1 << 20
"""Bytes of a column to read from disk at a time; by default a whole row group is read."""
_BATCH_BYTES = 64 << 20
"""Encoded pictures to hold at a time."""
_BATCH_ROWS = 1024
_MAX_FILE_BYTES = 1 << 29
"""Largest file of one picture; none of Pillow's largest needs as much."""
_PAGE_ROWS = 1024
"""Rows after which Arrow's writer looks whether a page is full; a page is read as a whole."""
_PAGE_COPIES = 3
"""A page's copies while it is read: compressed, decompressed, and as values."""


def find_parquet(path: Path) -> Sets:
    """Find the files of each set: a single file, or a folder laid out as on the Hub.

    A set is spelt in a file's name, or else in the name of a folder: ``train.parquet``, ``data/train-00000-of-00001
    .parquet``, ``default/train/0000.parquet``. Without any such name, all files are training files.

    Raises:
        ValueError: The path does not exist, or the folder has no training files, several data sets, or other files.
    """
    if path.is_file():
        if (what := identify_file(path)) in PICTURES:
            raise ValueError(f"{path} is one picture ({what}): set source.path to the folder with the class folders")
        return Sets(train=[path], test=[])
    if not path.is_dir():
        raise ValueError(
            f"{path} does not exist: source.path (for CIFAR-10 also CIFAR10_PARQUET) must name a Parquet file, "
            "or a folder with train*.parquet"
        )
    files = _list_parquet(path)
    if not files:
        raise ValueError(f"{path} holds no train*.parquet: name a folder with such files")
    spelt = {file: _spell(file.relative_to(path)) for file in files}
    places = {place for _, place in spelt.values()}
    if len(places) > 1:
        names = ", ".join(sorted(str(place) for place in places))
        raise ValueError(f"{path} holds several data sets ({names}): name one of them by source.path")
    by_file = {word == file.stem for file, (word, _) in spelt.items() if word}
    if len(by_file) > 1:
        raise ValueError(
            f"{path} names sets both by files and by folders, so that one set may stand there twice: move either, or "
            f"name one by source.path"
        )
    if not any(word for word, _ in spelt.values()):
        return Sets(train=files, test=[])
    if nameless := [str(file) for file, (word, _) in spelt.items() if not word]:
        raise ValueError(
            f"{nameless[0]} would not be read, because it names no set: rename it after one (train, validation, test), "
            f"or move it"
        )
    return choose_sets(path, [(word, file) for file, (word, _) in spelt.items()])


def holds_parquet(root: Path) -> bool:
    """Return whether a path is to be read as Parquet: a file, or a folder with any file of that name below it.

    So is a folder of Arrow files alone, to be refused with the remedy.
    """
    if root.is_file():
        return True
    files = walk_files(root)
    others = [file for file in files if not is_side_file(file.name)]
    return any(map(_is_named_parquet, files)) or (bool(others) and all(file.suffix == ".arrow" for file in others))


def _is_named_parquet(file: Path) -> bool:
    """Return whether a file is named as Parquet with examples, such as ``license-plates.parquet``."""
    is_metadata = file.name.startswith(".") or file.name.casefold() == "metadata.parquet"
    return file.suffix.lower() in SUFFIXES and not is_metadata


def _list_parquet(root: Path) -> list[Path]:
    found: list[Path] = []
    for file in walk_files(root):
        if _is_named_parquet(file):
            found.append(file)
            continue
        what = identify_file(file)
        if what == "Parquet" and file.name.casefold() != "metadata.parquet":
            if file.name.startswith("."):
                raise ValueError(f"{file} would not be read, because it is hidden: rename it or move it")
            found.append(file)
            continue
        if is_side_file(file.name):
            continue
        if what in PICTURES:
            raise ValueError(f"{root} holds Parquet files and the picture {file}: name the one to read by source.path")
        arrow = "; write Parquet with to_parquet of datasets" if file.suffix == ".arrow" else ""
        raise ValueError(f"{file} would not be read, because it is no Parquet file: convert it or move it{arrow}")
    return found


def _spell(file: Path) -> tuple[str, Path]:
    """Return the word that names the file's set ("" if none does), and the folder of its data set."""
    folders = list(file.parts[:-1])
    if name_set(file.stem):
        return file.stem, Path(*folders)
    for depth in reversed(range(len(folders))):
        if name_set(folders[depth]):
            return folders[depth], Path(*folders[:depth])
    return "", Path(*folders)


def read_parquet(
    train: list[Path],
    test: list[Path],
    *,
    num_classes: int | None = None,
    columns: Sequence[str] = (),
    resize: int | None = None,
    notes: Sequence[str] = (),
) -> DecodedImages:
    """Read every row of the files, in order.

    Args:
        train: Files of the training set.
        test: Files of the official test set.
        num_classes: Number of classes; defaults to that of the files' metadata, else of the labels.
        columns: Columns to read, such as ``image=photo``; by default those named img or image, label or fine_label, id.
        resize: See ``decode``.
        notes: Notes to keep with the pictures.

    Raises:
        ValueError: a file that is damaged or lacks a column, a row without a picture or label, a picture that cannot
            be decoded, a label out of range, or a column ``id`` that holds no ids.
    """
    chosen = parse_columns(columns)
    tables = [open_table(file) for file in [*train, *test]]
    counts = [table.num_rows for table in tables]
    if not sum(counts):
        raise ValueError(f"{', '.join(map(str, train))} holds no row: at least one is needed")
    labels, names = read_labels(tables[: len(train)], tables[len(train) :], chosen, num_classes)
    encoded = (picture for table in tables for picture in _encoded(table, chosen))
    pictures = decode(encoded, sum(counts), resize=resize)
    return DecodedImages(
        images=pictures.images,
        labels=labels,
        class_names=names,
        num_test=sum(counts[len(train) :]),
        ids=read_ids(tables, chosen),
        jpegs=pictures.jpegs,
        notes=(*notes, *pictures.notes),
    )


def read_other_labels(
    train: list[Path], test: list[Path], *, column: str, num_classes: int
) -> tuple[Int64[np.ndarray, " rows"], tuple[str, ...]]:
    """Read labels and names of another column, such as finer classes.

    Raises:
        ValueError: a file is damaged or lacks the column, or a label is missing or out of range.
    """
    tables = ([open_table(file) for file in train], [open_table(file) for file in test])
    return read_labels(*tables, {"label": column}, num_classes)


def open_table(file: Path) -> Table:
    """Open a Parquet file; its rows are read later."""
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        refuse_other_format(file)
        if file.is_file() and identify_file(file) == "a Git LFS pointer":
            raise ValueError(f"{file} is a Git LFS pointer, not the file: fetch it with `git lfs pull`") from error
        raise damage_error(file, error) from error
    table = Table(file=file, parquet=parquet)
    if twice := [name for name, number in Counter(table.names).items() if number > 1]:
        raise ValueError(f"{file} has two columns of one name ({twice[0]}): rename or drop one of them")
    return table


def refuse_other_format(file: Path) -> None:
    """Refuse a table in a format that is not read, and name the way to convert it.

    Raises:
        ValueError: The file is an array of NumPy, or neither begins nor is named as one of our formats.
    """
    if not file.is_file() or identify_file(file) == "a Git LFS pointer":
        return
    with file.open("rb") as stream:
        head = stream.read(6)
    if head == b"\x93NUMPY":
        raise ValueError(
            f"{file} is one array of NumPy without labels: write both to one file with "
            f"numpy.savez(FILE, x=features, y=labels)"
        )
    if not head.startswith((b"PAR1", b"PK")) and file.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"{file} is neither an .npz file nor Parquet, and CSV is not read: convert it with "
            f"pandas.read_csv({file.name!r}).to_parquet('{file.stem}.parquet', index=False), or write arrays with "
            f"numpy.savez(FILE, x=features, y=labels)"
        )


def _encoded(table: Table, chosen: dict[Role, str]) -> Iterator[tuple[str, bytes]]:
    """Yield each picture's place and bytes."""
    file, name = table.file, find_column(table, "image", chosen)
    kind = table.type_of(name)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not is_bytes and (not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0):
        raise ValueError(
            f"{file}: column {name} holds {kind}, must hold struct<bytes, path> as datasets writes images, or the "
            f"bytes of picture files: name another with --source.columns image=NAME"
        )
    leaf = name if is_bytes else f"{name}.bytes"
    row = 0
    batches = table.parquet.iter_batches(batch_size=_batch_rows(table, leaf), columns=[leaf])
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise damage_error(file, error) from error
        if batch is None:
            return
        column = batch[name] if is_bytes else batch[name].field("bytes")
        for content in column:
            where = f"{file}, row {row}"
            if not content.is_valid:
                raise ValueError(f"{where}: the picture's bytes are missing: store them in the file, not only the path")
            yield where, content.as_py()
            row += 1


def _batch_rows(table: Table, leaf: str) -> int:
    """Return how many rows to read at a time, from the sizes in the file's footer.

    Raises:
        ValueError: Rows are too large for a picture, or pages for the memory.
    """
    metadata = table.parquet.metadata
    largest = page = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        sizes = [group.column(at) for at in range(group.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in sizes if chunk.path_in_schema == leaf)
        mean = size // max(1, group.num_rows)
        largest, page = max(largest, mean), max(page, min(size, _PAGE_ROWS * mean))
    if largest > _MAX_FILE_BYTES:
        raise ValueError(
            f"{table.file}: column {leaf} has {format_bytes(largest)} a row, more than a picture can have "
            f"({format_bytes(_MAX_FILE_BYTES)}): store smaller pictures"
        )
    if _PAGE_COPIES * page > (limit := get_memory_limit("cpu")):
        raise ValueError(
            f"{table.file}: its pictures stand in pages of about {format_bytes(page)}, whose reading takes "
            f"{_PAGE_COPIES} times as much, and this process may use {format_bytes(limit)}: write the file again with "
            f"smaller row groups (row_group_size=100)"
        )
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))
