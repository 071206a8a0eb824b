"""Lists are read as written, or refused with the line and a remedy."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ungan_dist.data.lists import read_entries, read_list
from ungan_dist.data.sources.source import Source

NUM = 40
PATHS = tuple(f"c{number % 4}/{number:04}.png" for number in range(NUM))
NUMBERS = tuple(str(1000 + number) for number in range(NUM))


def source(ids: tuple[str, ...] | None) -> Source:
    return Source(
        images=np.zeros((NUM, 4, 4, 1), np.uint8),
        labels=np.arange(NUM) % 4,
        num_classes=4,
        class_names=("a", "b", "c", "d"),
        title="nothing",
        bundled=False,
        test=None,
        mean=(0.5,),
        std=(1.0,),
        ids=ids,
    )


def listed(folder: Path, content: str | bytes, ids: tuple[str, ...] | None, name: str = "forget.csv") -> list[int]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_list(path, source(ids)).tolist()


@pytest.mark.parametrize(
    ("content", "ids", "expected"),
    [
        # as pandas writes a frame of ids, with its own index before them
        (f",id\n0,{PATHS[3]}\n1,{PATHS[5]}\n", PATHS, [3, 5]),
        (f"index,id\n0,{PATHS[3]}\n1,{PATHS[5]}\n", PATHS, [3, 5]),
        (f"when,File\n2024,{PATHS[3]}\n", PATHS, [3]),
        # of two columns, the one with ids of the data is read
        (f"id,path\n7,{PATHS[3]}\n8,{PATHS[5]}\n", PATHS, [3, 5]),
        ("index,id\n3,1005\n", NUMBERS, [5]),
        ("id,index\n9,3\n", None, [3]),
        (",Index\n0,3\n1,5\n", None, [3, 5]),
        ("ID\n1003\n", NUMBERS, [3]),
        (f"path\n{PATHS[3]}\n", PATHS, [3]),
        ("index\n3\n5\n", PATHS, [3, 5]),
        (f"index\n{PATHS[3]}\n", PATHS, [3]),
        ("\n3\n\n  \n5\r\n", None, [3, 5]),
        ("forget\n3\n", None, [3]),
        # the id of an example may equal a heading
        ("id\nother\n", ("other", "id", *PATHS[2:]), [0, 1]),
        (" a\nb\n", (" a", "b", *PATHS[2:]), [0, 1]),
        ('"a, ""b"""\n', ('a, "b"', *PATHS[1:]), [0]),
        ("\ufeff3\n", None, [3]),
        # an accent as part of its letter, and as a sign of its own
        ("id\ngr\u00f6\u00dfe\n", ("gro\u0308\u00dfe", *PATHS[1:]), [0]),
        ("id\ngro\u0308\u00dfe\n", (PATHS[0], "gr\u00f6\u00dfe", *PATHS[2:]), [1]),
    ],
)
def test_the_named_column_is_read(
    tmp_path: Path, content: str, ids: tuple[str, ...] | None, expected: list[int]
) -> None:
    assert listed(tmp_path, content, ids) == expected


@pytest.mark.parametrize(
    ("content", "ids", "message"),
    [
        ("5,6,7\n", None, 'line 1 has 3 columns and no heading .* name one "id" or "index"'),
        (f"0,{PATHS[3]}\n1,{PATHS[5]}\n", PATHS, "2 columns and no heading"),
        (f"name,{PATHS[3]}\n", PATHS, "2 columns and no heading"),
        ("id,note\n3,x\n,y\n", None, r"line 3 names no example \(its cell is blank\)"),
        ('3\n""\n', None, "line 2 names no example"),
        ("id,note\n3,x\n4\n", None, "line 3 has 1 cells, line 1 has 2"),
        ("3\n4,5\n", None, "line 2 has 2 columns and no heading"),
        ("id,note\n3,x,y\n", None, "line 2 has 3 cells, line 1 has 2.*in quotes"),
        ("id,id\n3,4\n", None, "two columns are named 'id'"),
        ('3\n"4\n5\n6\n', None, "line 2: .*close its quotes"),
        ('3\n"4\n5"\n', None, "line 2: .*close its quotes"),
        ('3\n"4"4\n', None, "line 2: .*close its quotes"),
        (f'3\n"{"4" * 200_000}"\n', None, "line 2: field larger than"),
        (f"3\n{'4' * 5000}\n", None, r"line 2: index 4{80}… \(5,000 characters\) is out of range, must be 0 … 39"),
        ("surname\n3\n", None, "line 1: the data has no example 'surname'.*If line 1 is a heading, name it 'id'"),
        ("id;note\n3;x\n", None, "'id;note'.*Separate columns with commas"),
        # under a heading of ids, numbers are not indices
        ("id\n3\n", PATHS, "line 2: the data has no example '3'.*c0/0000.png.*\"index\""),
        ("index\n3\n", NUMBERS, "headed as indices, but the data has ids that are numbers \\('1000'\\)"),
        ("5\n6\n", ("932.0", *PATHS[1:]), "line 1: the data has no example '5'.*'932.0'.*a number is an id"),
        ("id\n0003.png\n", PATHS, r"If 'c3/0003.png' is meant, write it so"),
        ("c3\\0003.png\n", PATHS, r"no example 'c3\\+0003.png'.*If 'c3/0003.png' is meant"),
        ("id\n/data/pics/c3/0003.png\n", PATHS, r"If 'c3/0003.png' is meant"),
        (f"{PATHS[3]}\n4\n", PATHS, "line 2: the data has no example '4'.*ids or indices, not both"),
        (f"{PATHS[3]}\n{PATHS[4]}\n\n{PATHS[3]}\n", PATHS, "line 4: example 'c3/0003.png' is listed at line 1 already"),
        ("3\n+3\n", None, r"line 2: example \+3 is listed at line 1 already"),
        (b"\xff\xfe3\x00", None, "not text: a list is CSV or text in UTF-8"),
        ("", None, "lists no example"),
        ("id\n", None, "lists no example"),
    ],
)
def test_ambiguous_names_are_refused(
    tmp_path: Path, content: str | bytes, ids: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=re.compile(f"forget.csv.*({message})", re.DOTALL)):
        listed(tmp_path, content, ids)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, forget=np.arange(3))
    return file.getvalue()


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("array", "ids", "expected"),
    [
        (np.array([5, 3]), PATHS, [3, 5]),
        (np.array([1005, 1003], np.uint16), NUMBERS, [3, 5]),
        (np.array([PATHS[5], PATHS[3]]), PATHS, [3, 5]),
        (np.array(["1003"]), NUMBERS, [3]),
    ],
)
@pytest.mark.parametrize("name", ["forget.npy", "forget.NPY"])
def test_arrays_of_integers_and_of_ids(
    tmp_path: Path, array: np.ndarray, ids: tuple[str, ...], expected: list[int], name: str
) -> None:
    assert listed(tmp_path, _npy(array), ids, name) == expected


@pytest.mark.parametrize(
    ("content", "ids", "message"),
    [
        (_npz, None, r"several arrays \(.npz\)"),
        (lambda: _npy(np.arange(NUM) < 3), None, r"mask \(bool\): save np.flatnonzero\(mask\)"),
        (lambda: _npy(np.array([3.0])), None, "one row of integers, or of ids as strings, got float64"),
        (lambda: _npy(np.array([[3]])), None, r"got int64 of shape \(1, 1\)"),
        (lambda: _npy(np.array(["3"])), None, "holds strings, and the data has no ids: save indices, as integers"),
        (lambda: _npy(np.array(["3"])), PATHS, "entry 1: the data has no example '3'"),
        (lambda: _npy(np.array([3, 4, 3])), PATHS, "entry 3: example 3 is listed at entry 1 already"),
        (lambda: _npy(np.array(["a"], object)), None, "without unpickling"),
        (lambda: _npy(np.arange(3))[:-4], None, "without unpickling"),
        (lambda: b"", None, "without unpickling"),
        (
            lambda: _header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000000,), }"),
            None,
            r"without unpickling \((MemoryError|_ArrayMemoryError|ValueError)",
        ),
        (lambda: _header("{'descr': '<i8', ((("), None, "without unpickling"),
    ],
)
def test_arrays_of_another_form_are_refused(
    tmp_path: Path, content: Callable[[], bytes], ids: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"forget.npy.*{message}"):
        listed(tmp_path, content(), ids, "forget.npy")


def test_a_folder_and_an_absent_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder: name the list"):
        read_list(tmp_path, source(None))
    with pytest.raises(ValueError, match=r"absent does not exist"):
        read_list(tmp_path / "absent", source(None))


def test_an_example_is_named_as_listed(tmp_path: Path) -> None:
    (tmp_path / "forget.csv").write_text(f"id\n{PATHS[7]}\n{PATHS[2]}\n")
    found = read_entries(tmp_path / "forget.csv", source(PATHS))
    assert found.describe(7) == f"{tmp_path}/forget.csv, line 2: example 'c3/0007.png'"
    (tmp_path / "forget.csv").write_text("9\n4\n")
    assert read_entries(tmp_path / "forget.csv", source(None)).describe(4).endswith("line 2: example 4")


COMPOSED, DECOMPOSED = "c0/caf\u00e9.png", "c0/cafe\u0301.png"


@pytest.mark.parametrize(("written", "stored"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
@pytest.mark.parametrize("heading", ["id\n", ""])
def test_accents_may_be_encoded_in_either_way(tmp_path: Path, written: str, stored: str, heading: str) -> None:
    assert listed(tmp_path, heading + written, (*PATHS[:-1], stored)) == [NUM - 1]


def test_an_id_that_means_two_examples_is_refused(tmp_path: Path) -> None:
    ids = (*PATHS[:-2], "\u212b.png", "A\u030a.png")
    assert listed(tmp_path, "A\u030a.png", ids) == [NUM - 1]
    with pytest.raises(ValueError, match=r"line 1: .*may mean '\\u212b.png' or 'A\\u030a.png'.*write it as one"):
        listed(tmp_path, "\u00c5.png", ids)
