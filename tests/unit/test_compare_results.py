"""`ungan-dist bench compare` refuses files that would hide a count."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import compare_results

ROW = {"subject": "a step", "counts": {"operations": 100}}


def write(path: Path, *rows: object, suite: str = "counts") -> Path:
    path.write_text(json.dumps({"suite": suite, "rows": rows}))
    return path


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROW, {"subject": "a step", "counts": {"operations": 90}}], "two rows of one subject"),
        ([{"subject": "a step", "counts": {"operations": float("nan")}}], "nan, no count"),
        ([{"subject": "a step", "counts": {"operations": "90"}}], "'90', no count"),
    ],
)
def test_a_file_whose_counts_cannot_be_compared_is_refused(tmp_path: Path, rows: list[object], words: str) -> None:
    old = write(tmp_path / "old.json", ROW)
    with pytest.raises(SystemExit, match=words):
        compare_results.main([str(old), str(write(tmp_path / "new.json", *rows))])


@pytest.mark.parametrize(("count", "code"), [(100, 0), (99, 0), (101, 1)])
def test_only_a_count_that_grows_fails(tmp_path: Path, count: int, code: int) -> None:
    old = write(tmp_path / "old.json", ROW)
    new = write(tmp_path / "new.json", ROW | {"counts": {"operations": count}})
    assert compare_results.main([str(old), str(new)]) == code


def test_no_rows_are_a_count_that_is_no_longer_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old.json", ROW)
    (tmp_path / "new.json").write_text(json.dumps({"suite": "counts", "rows": None}))
    assert compare_results.main([str(old), str(tmp_path / "new.json")]) == 1
    assert "100 → not counted" in capsys.readouterr().out


def test_a_suite_that_is_not_compared_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "counts.json", ROW)
    write(tmp_path / "old/kernels.json", ROW, suite="kernels")
    assert compare_results.main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    assert "not compared: kernels" in capsys.readouterr().out
