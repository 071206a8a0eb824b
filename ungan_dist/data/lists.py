"""Read a list of examples: CSV, text or .npy, of ids or indices. An ambiguous list is refused."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from ungan_dist.data.sources.source import Source

ID_HEADINGS = ("id", "ids", "path", "file", "filename", "image")
INDEX_HEADINGS = ("index", "indices")
HEADINGS = (*ID_HEADINGS, "example", "forget", *INDEX_HEADINGS)
"""Headings of the column with the examples, in any case. The first of several counts."""

Meaning = Literal["ids", "indices", "either"]


class Entry(NamedTuple):
    """One example as written in the list."""

    place: str
    """``line 3`` of a text, or ``entry 3`` of an array."""
    word: str


@dataclass(frozen=True, kw_only=True)
class ExampleList:
    """Examples of a list."""

    path: Path
    indices: Int[np.ndarray, " listed"]
    """In increasing order."""
    entries: list[Entry]
    """In the same order."""
    by_id: bool

    def describe(self, index: int) -> str:
        """Describe an example by its file, its line and its text."""
        place, word = self.entries[int(np.searchsorted(self.indices, index))]
        return f"{self.path}, {place}: example {_shown(word) if self.by_id else word}"


def read_list(path: Path, source: Source) -> Int[np.ndarray, " listed"]:
    """Read the indices of a list; see ``read_entries``."""
    return read_entries(path, source).indices


def read_entries(path: Path, source: Source) -> ExampleList:
    """Read a list of ids or indices: one per line (text), a column (CSV), or an array of integers or strings (.npy).

    Raises:
        ValueError: The list is unreadable, empty or ambiguous, or it has repeated or unknown examples.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the list of examples in it (CSV, text or .npy)")
    if not path.is_file():
        raise ValueError(f"{path} does not exist: name a list of examples (CSV, text or .npy)")
    positions = {id: position for position, id in enumerate(source.ids or ())}
    meaning, entries = _array(path) if path.suffix.lower() == ".npy" else _text(path, positions)
    if not entries:
        raise ValueError(f"{path} lists no example: name at least one")
    by_id = _are_ids(path, meaning, entries, source, positions)
    indices = _by_id(path, entries, source, positions) if by_id else _by_index(path, entries, source)
    order = np.argsort(indices, kind="stable")
    listed = ExampleList(path=path, indices=indices[order], entries=[entries[at] for at in order], by_id=by_id)
    again = np.flatnonzero(np.diff(listed.indices) == 0)
    if len(again):
        first, second = listed.entries[again[0] : again[0] + 2]
        what = _shown(second.word) if by_id else second.word
        raise ValueError(f"{path}, {second.place}: example {what} is listed at {first.place} already: list each once")
    return listed


def _array(path: Path) -> tuple[Meaning, list[Entry]]:
    try:
        array: object = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header may raise almost any error, such as MemoryError
        raise ValueError(
            f"{path} is no array that can be read without unpickling ({type(error).__name__}: "
            f"{str(error)[:200]}): save it by np.save as integers, or ids as strings"
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} holds several arrays (.npz): save the one that lists examples by np.save")
    if array.dtype.kind == "b":
        raise ValueError(f"{path} holds a mask (bool): save np.flatnonzero(mask), the indices where it is true")
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise ValueError(
            f"{path} must be one row of integers, or of ids as strings, got {array.dtype} of shape {array.shape}"
        )
    entries = [Entry(f"entry {number}", str(value)) for number, value in enumerate(array.tolist(), 1)]
    return ("ids" if array.dtype.kind == "U" else "either"), entries


def _text(path: Path, positions: Mapping[str, int]) -> tuple[Meaning, list[Entry]]:
    """Read the column with the examples, without its heading."""
    rows = _rows(path)
    if not rows:
        return "either", []
    first = [cell.strip().lower() for cell in rows[0][1]]
    if max(len(row) for _, row in rows) == 1:
        has_heading = first[0] in HEADINGS and rows[0][1][0].strip() not in positions
        column = 0
    else:
        has_heading, column = True, _column(path, rows, first, positions)
    entries: list[Entry] = []
    for line, row in rows[has_heading:]:
        if len(row) != len(first):
            raise ValueError(
                f"{path}, line {line} has {len(row)} cells, line {rows[0][0]} has {len(first)}: make them as many, and "
                f'put ids that hold a comma in quotes ("…")'
            )
        word = row[column] if row[column] in positions else row[column].strip()
        if not word:
            raise ValueError(f"{path}, line {line} names no example (its cell is blank): fill it, or remove the line")
        entries.append(Entry(f"line {line}", word))
    heading = first[column] if has_heading else ""
    return ("ids" if heading in ID_HEADINGS else "indices" if heading in INDEX_HEADINGS else "either"), entries


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the cells of each line that is not blank, with the line's number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: a list is CSV or text in UTF-8, or .npy") from error
    rows: list[tuple[int, list[str]]] = []
    # line by line, because an open quote would include the examples below it
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, next(csv.reader([line], strict=True))))
        except csv.Error as error:
            raise ValueError(f"{path}, line {number}: {error}: close its quotes, or leave them out") from error
    return rows


def _column(path: Path, rows: list[tuple[int, list[str]]], first: list[str], positions: Mapping[str, int]) -> int:
    """Find the column with the examples. Of several, prefer one that holds ids of the data."""
    named = sorted((column for column, name in enumerate(first) if name in HEADINGS), key=lambda at: _rank(first[at]))
    if not named:
        line, row = max(rows, key=lambda numbered: len(numbered[1]))
        raise ValueError(
            f"{path}, line {line} has {len(row)} columns and no heading for the examples: name one "
            f'"id" or "index" in the first line, or list one example a line (ids that hold a comma in quotes)'
        )
    repeated = [name for name, count in Counter(first[at] for at in named).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: two columns are named {repeated[0]!r}: leave one")
    if not positions:
        return next((at for at in named if first[at] in INDEX_HEADINGS), named[0])
    whole = (at for at in named if all(at < len(row) and row[at].strip() in positions for _, row in rows[1:]))
    by_id = [at for at in named if first[at] not in INDEX_HEADINGS]
    return next((at for at in whole if at in by_id), (by_id or named)[0])


def _rank(heading: str) -> int:
    return HEADINGS.index(heading)


def _are_ids(path: Path, meaning: Meaning, entries: list[Entry], source: Source, positions: Mapping[str, int]) -> bool:
    """Return whether the entries are ids, by the heading or because the data has any of them; else they are indices.

    If the data's ids are numbers, a number is an id, because as an index it would mean another example.
    """
    if not source.ids:
        if meaning == "ids" and path.suffix.lower() == ".npy":
            raise ValueError(f"{path} holds strings, and the data has no ids: save indices, as integers")
        return False
    number = next((id for id in source.ids if _is_number(id)), None)
    if meaning == "indices" and number is not None:
        raise ValueError(
            f"{path} is headed as indices, but the data has ids that are numbers ({_shown(number)}), so that a number "
            f'is an id: list ids, headed "id"'
        )
    if meaning == "ids" or number is not None or any(word in positions for _, word in entries):
        return True
    composed = {_composed(id) for id in positions if not id.isascii()}
    return any(_composed(word) in composed for _, word in entries)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", text.strip(), re.IGNORECASE) is not None


def _by_id(
    path: Path, entries: list[Entry], source: Source, positions: Mapping[str, int]
) -> Int[np.ndarray, " listed"]:
    assert source.ids
    repeated: set[str] = set()
    if len(positions) < len(source.ids):
        repeated = {id for id, count in Counter(source.ids).items() if count > 1}
    composed: dict[str, list[str]] = {} if all(word in positions for _, word in entries) else _compose(positions)
    found: list[int] = []
    for place, word in entries:
        alike = [word] if word in positions else composed.get(_composed(word), [])
        if len(alike) > 1:
            raise ValueError(
                f"{path}, {place}: {_shown(word)} may mean {' or '.join(map(ascii, alike))}, which differ only in how "
                f"accents are encoded: write it as one of them"
            )
        known = alike[0] if alike else None
        if known is None:
            number = next((id for id in source.ids if _is_number(id)), None)
            such = f"it has ids such as {_shown(source.ids[0] if number is None else number)}"
            remedy = ', and a list holds ids or indices, not both; head a column of indices "index"'
            if number is not None:
                remedy = ", and where ids are numbers, a number is an id"
            raise ValueError(
                f"{path}, {place}: the data has no example {_shown(word)}; {such}{remedy}"
                f"{_hint(place, word)}{_hint_at_path(word, source.ids)}"
            )
        if known in repeated:
            raise ValueError(
                f"{path}, {place}: more than one example of the data has the id {_shown(word)}: make ids unique"
            )
        found.append(positions[known])
    return np.array(found, dtype=np.int64)


def _by_index(path: Path, entries: list[Entry], source: Source) -> Int[np.ndarray, " listed"]:
    last = len(source.images) - 1
    for place, word in entries:
        # int() also reads "1_0"
        if re.fullmatch(r"[+-]?[0-9]+", word) is None:
            known = f"it has ids such as {_shown(source.ids[0])}" if source.ids else "it has no ids: list indices"
            hint = _hint(place, word) + _hint_at_path(word, source.ids or ())
            raise ValueError(f"{path}, {place}: the data has no example {_shown(word)}; {known}{hint}")
        # int() has another error for thousands of digits
        if len(word) > 20 or not 0 <= int(word) <= last:
            raise ValueError(f"{path}, {place}: index {_cut(word)} is out of range, must be 0 … {last}")
    return np.array([int(word) for _, word in entries], dtype=np.int64)


def _composed(word: str) -> str:
    """Return a word with each accent as part of its letter; file systems differ in this."""
    return unicodedata.normalize("NFC", word)


def _compose(ids: Iterable[str]) -> dict[str, list[str]]:
    """Group ids that differ only in the encoding of accents."""
    groups: dict[str, list[str]] = {}
    for id in ids:
        groups.setdefault(_composed(id), []).append(id)
    return groups


def _hint_at_path(word: str, ids: Sequence[str]) -> str:
    """Name the example that a whole path, a path of Windows, or a bare file name may mean."""
    parts = word.replace("\\", "/").split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    known = set(ids)
    meant = [end for end in ends if end in known] or [id for id in ids if id.endswith(f"/{ends[-1]}")]
    return f". If {_shown(meant[0])} is meant, write it so" if len(meant) == 1 else ""


def _hint(place: str, word: str) -> str:
    """Suggest what an unknown entry may be."""
    if ";" in word or "\t" in word:
        return ". Separate columns with commas"
    if place == "line 1" and re.fullmatch(r"[^\d/.]+", word):
        return f". If line 1 is a heading, name it {' or '.join(repr(name) for name in ('id', 'index'))}"
    return ""


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:80]}… ({len(text):,} characters)"


def _shown(word: str) -> str:
    return repr(_cut(word))
