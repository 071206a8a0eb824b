"""`ungan-dist bench compare` finds regressions, and refuses files that would hide one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import bench
import compare_results

ROW = {"subject": "a step", "counts": {"operations": 100}}


def write(path: Path, *rows: object, suite: str = "counts", **facts: object) -> Path:
    path.write_text(json.dumps({"suite": suite, "rows": rows, **facts}))
    return path


TIMED = {"subject": "a step", "rival": "a loop", "ratios": [2.0] * 20}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROW, {"subject": "a step", "counts": {"operations": 90}}], "two rows of one subject"),
        ([{"subject": "a step", "counts": {"operations": float("nan")}}], "nan, no count"),
        ([{"subject": "a step", "counts": {"operations": "90"}}], "'90', no count"),
        ([{"subject": "a step", "counts": {"operations": True}}], "True, no count"),
        ([{"subject": "a step", "counts": None}], "None in place of counts"),
        ([{"counts": {"operations": 90}}], "no subject"),
        ([{"subject": ["a step"], "counts": {"operations": 90}}], "no subject"),
        ([ROW | {"rival": 3}], "a rival without a name"),
        (["a step"], "'a step' is no row"),
        ([TIMED | {"ratios": ["2.0"]}], "in place of ratios"),
        ([TIMED | {"ratios": [0.0]}], "in place of ratios"),
        ([TIMED | {"ratios": [float("nan")]}], "in place of ratios"),
        ([TIMED | {"ratios": 2.0}], "in place of ratios"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[object], words: str
) -> None:
    old, new = write(tmp_path / "old.json", ROW), write(tmp_path / "new.json", *rows)
    for pair in ((old, new), (new, old)):
        assert compare_results.main([str(path) for path in pair]) == 2
        message = capsys.readouterr().err
        assert words in message
        assert str(new) in message
        assert message.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe{}", b"[]", b"null", b"{", b"[" * 100_000, b'{"suite": ["counts"]}', b'{"suite": null}',
     b'{"suite": "counts", "rows": {"subject": 1}}', b'{"suite": "counts", "problems": 1}'],
)  # fmt: skip
def test_a_file_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    old, new = write(tmp_path / "old.json", ROW), tmp_path / "new.json"
    new.write_bytes(content)
    assert compare_results.main([str(old), str(new)]) == 2
    message = capsys.readouterr().err
    assert str(new) in message
    assert message.count("\n") == 1


def test_wrong_input_of_the_command_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, folder = write(tmp_path / "old.json", ROW), tmp_path / "empty"
    folder.mkdir()
    for new in (tmp_path / "absent.json", folder, tmp_path / ("x" * 300)):
        assert bench.main(["compare", str(old), str(new)]) == 2
        message = capsys.readouterr().err
        assert message.startswith(f"ungan-dist bench compare: {new}")
        assert message.count("\n") == 1


def test_two_files_of_one_suite_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("counts.json", "copy.json"):
        write(tmp_path / name, ROW)
    assert compare_results.main([str(tmp_path), str(tmp_path)]) == 2
    assert "two files of the suite counts" in capsys.readouterr().err


@pytest.mark.parametrize("before", [[TIMED], []], ids=["timed before", "not measured before"])
def test_a_result_that_has_become_wrong_is_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: list[object]
) -> None:
    refused = {"subject": "a step", "rival": "a loop", "refused": "the result is wrong: its error is 1"}
    old, new = write(tmp_path / "old.json", *before), write(tmp_path / "new.json", refused)
    assert compare_results.main([str(old), str(new)]) == 1
    assert "FAILED: counts, a step, against a loop: the result is wrong" in capsys.readouterr().out
    assert compare_results.main([str(new), str(new)]) == 0


def test_a_suite_that_has_not_ended_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path / "old.json", ROW), write(tmp_path / "new.json", ROW, problems=["it took too long"])
    assert compare_results.main([str(old), str(new)]) == 1
    assert "FAILED: counts: it took too long" in capsys.readouterr().out


def test_a_time_that_is_no_longer_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path / "old.json", ROW, TIMED), write(tmp_path / "new.json", ROW)
    assert compare_results.main([str(old), str(new)]) == 0
    assert "a step, against a loop: not timed any more" in capsys.readouterr().out


def test_tiny_sizes_are_not_compared_and_a_busy_machine_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = write(tmp_path / "old.json", ROW), write(tmp_path / "new.json", ROW, quick=True)
    assert compare_results.main([str(old), str(new)]) == 2
    assert "tiny sizes" in capsys.readouterr().out
    write(new, ROW, is_marked=True)
    assert compare_results.main([str(old), str(new)]) == 0
    assert f"doubtful: {new} measured counts beside other work" in capsys.readouterr().out


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
    write(tmp_path / "new/scoring.json", TIMED, suite="scoring")
    assert compare_results.main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    assert f"not compared: kernels, because {tmp_path / 'new'} does not have it" in printed
    assert f"not compared: scoring, because {tmp_path / 'old'} does not have it" in printed
