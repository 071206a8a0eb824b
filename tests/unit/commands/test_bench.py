"""``ungan-dist bench``: what it refuses, what it compares, and what is published."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run_command

from ungan_dist.commands import bench as command

pytest.importorskip("triton")
sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

import bench
import harness
import load
import publish
from compare_results import main as compare


def write_results(path: Path, rows: list[dict[str, Any]], **facts: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    where = {"commit": "abc", "python": "3", "torch": "2"}
    hardware = {"cores": 2, "cpu": "x", "gpus": []}
    found = {
        "suite": "counts",
        "rows": rows,
        "measured_on": where,
        "hardware": hardware,
        "load": {"before_suite": 0.0, "beside": 0.0},
    }
    path.write_text(json.dumps({**found, "is_marked": False, "quick": False, "is_timed": True, **facts}))
    return path


def timed(ratio: float) -> dict[str, Any]:
    pairs = np.array([[ratio * (1 + 0.01 * turn), 1.0] for turn in range(20)])
    return harness.as_row("step", harness.summarise("rival", pairs), error=0.0)


def test_a_count_that_grows_is_an_error_and_a_slower_time_is_not(tmp_path: Path, capsys) -> None:
    before = write_results(tmp_path / "old.json", [harness.count_row("step", launches=5, waits=0), timed(4.0)])
    same = write_results(tmp_path / "same.json", [harness.count_row("step", launches=4, waits=0), timed(2.0)])
    assert compare([str(before), str(same)]) == 0
    assert "launches: 5 → 4" in (printed := capsys.readouterr().out)
    assert "0.50 [" in printed
    assert "slower" in printed
    more = write_results(tmp_path / "more.json", [harness.count_row("step", launches=5, waits=1), timed(4.0)])
    assert compare([str(before), str(more)]) == 1
    assert "MORE: counts, step, waits: 0 → 1" in (printed := capsys.readouterr().out)
    assert "no change shown" in printed
    less = write_results(tmp_path / "less.json", [harness.count_row("step", launches=5)])
    assert compare([str(before), str(less)]) == 1
    assert "waits: 0 → not counted" in capsys.readouterr().out


def test_results_of_other_programs_are_not_compared(tmp_path: Path, capsys) -> None:
    (tmp_path / "other.json").write_text("[]")
    assert compare([str(tmp_path), str(tmp_path)]) == 2
    assert "no results of ungan-dist bench" in capsys.readouterr().err


def test_the_time_of_a_wrong_result_is_left_out() -> None:
    ratio = harness.summarise("rival", np.full((20, 2), 2.0))
    assert harness.as_row("step", ratio, error=1e-9, tolerance=1e-6)["ratio"] == 1.0
    for error in (1e-3, float("nan")):
        row = harness.as_row("step", ratio, error=error, tolerance=1e-6)
        assert "wrong" in str(row["refused"])
        assert not {"ratio", "ours_ms", "ratios"} & set(row)


def set_busy_cores(monkeypatch, *busy_cores: float) -> None:
    """Let the machine have so many busy cores, at one look after the other."""
    looks = iter(busy_cores)
    monkeypatch.setattr(load, "measure_busy_cores", lambda: next(looks))
    monkeypatch.setattr(load, "is_idle", lambda busy: busy < 1)


@pytest.fixture
def measured(monkeypatch) -> list[tuple[str, float]]:
    """Suites in place of their measurement, with the busy cores before each."""
    found: list[tuple[str, float]] = []

    def run(name: str, output: Path, before: float, *, quick: bool) -> bool:
        found.append((name, before))
        return True

    monkeypatch.setattr(bench, "_run", run)
    return found


def test_a_busy_machine_is_refused_before_anything_is_measured(tmp_path: Path, monkeypatch, capsys, measured) -> None:
    set_busy_cores(monkeypatch, 1.5)
    assert bench.main(["counts", "start-up", "--output", str(tmp_path)]) == 2
    assert "1.5 of" in capsys.readouterr().err
    assert not measured


def test_idleness_is_measured_before_each_suite(tmp_path: Path, monkeypatch, capsys, measured) -> None:
    """The processes of a suite may end later than it, so the next one waits for them."""
    set_busy_cores(monkeypatch, 0.5, 1.5, 0.25, 1.75)
    assert bench.main(["fleet", "start-up", "--output", str(tmp_path)]) == 0
    assert measured == [("fleet", 0.5), ("start-up", 0.25)]
    set_busy_cores(monkeypatch, 0.5, 1.5)
    monkeypatch.setattr(bench, "PATIENCE_S", 0.0)
    assert bench.main(["counts", "start-up", "--output", str(tmp_path)]) == 2
    assert "not measured: start-up" in capsys.readouterr().err
    assert measured[2:] == [("counts", 0.5)]


def test_counts_alone_are_taken_on_a_busy_machine(tmp_path: Path, monkeypatch, measured) -> None:
    set_busy_cores(monkeypatch, 1.5)
    assert bench.main(["counts", "--output", str(tmp_path)]) == 0
    assert measured == [("counts", 1.5)]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"before_suite": 0.1, "beside": 0.25}, "before it took 0.10 cores; beside it: 0.25 cores"),
        ({"before_suite": 0.1, "beside": 0.0}, "before it took 0.10 cores; beside it: 0.00 cores"),
        ({"before_suite": 0.1, "beside": None}, "before it took 0.10 cores; beside it: not known"),
        ({"before": 0.1, "beside": None}, "before the first suite took 0.10 cores; beside it: not known"),
    ],
)
def test_other_work_that_is_not_known_is_no_idle_machine(published: Path, found: dict[str, Any], words: str) -> None:
    write_results(published / "start_up.json", [harness.value_row("--help", wall_s=0.25)], load=found)
    assert f"Other work {words}." in publish._fill(BLOCK)


@pytest.fixture
def published(tmp_path: Path, monkeypatch) -> Path:
    """The folder of the results that are published."""
    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    return tmp_path


BLOCK = "<!-- results: start_up -->\nold\n<!-- end -->"


def test_a_suite_is_published_once_it_is_measured(published: Path) -> None:
    assert "Not measured yet" in publish._fill(BLOCK)
    write_results(published / "start_up.json", [harness.value_row("--help", wall_s=0.25)])
    assert "| --help | 0.25 |" in publish._fill(BLOCK)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"is_marked": True}, "on a busy machine"),
        ({"quick": True}, "at tiny sizes"),
        ({"problems": ["it took more than 120 s"]}, "incomplete, because it took more than 120 s"),
        ({"rows": []}, "has no rows"),
    ],
)
def test_results_that_are_no_whole_measurement_are_not_published(
    published: Path, facts: dict[str, Any], words: str
) -> None:
    rows = [harness.value_row("--help", wall_s=0.25)]
    write_results(published / "start_up.json", **({"rows": rows} | facts))
    with pytest.raises(SystemExit, match=words):
        publish._fill(BLOCK)
    with pytest.raises(SystemExit, match=words):
        publish._read_rows("start_up")


def test_without_a_checkout_the_command_names_the_remedy(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "SCRIPT", tmp_path / "absent.py")
    done = run_command("bench")
    assert done.returncode == 2
    assert "clone the repository" in done.stderr


@pytest.mark.parametrize("option", ["--quick", "--busy"])
def test_trials_do_not_replace_the_published_results(option: str, capsys) -> None:
    with pytest.raises(SystemExit):
        bench.main(["scoring", option])
    assert f"{option} measures" in (printed := capsys.readouterr().err)
    assert "--output" in printed


@pytest.mark.process
@pytest.mark.parametrize(("limit_s", "busy_cores"), [(0.1, 0.0), (120.0, 99.0)], ids=["failed", "marked"])
def test_a_published_result_stays_until_a_whole_one_replaces_it(
    tmp_path: Path, monkeypatch, limit_s: float, busy_cores: float
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setitem(bench.SUITES, "start-up", replace(bench.SUITES["start-up"], limit_s=limit_s))
    published = write_results(tmp_path / "start_up.json", []).read_text()
    assert bench._run("start-up", tmp_path, busy_cores, quick=True) is (busy_cores > 0)
    assert (tmp_path / "start_up.json").read_text() == published
    found = json.loads((tmp_path / bench.UNPUBLISHED / "start_up.json").read_text())
    assert found["is_marked"] if busy_cores else found["problems"]


def test_the_list_of_suites_has_their_seconds(capsys) -> None:
    assert bench.main(["list"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    took = {line.split()[0]: line.split()[1] for line in lines}
    assert set(took) == set(bench.SUITES)
    assert took["scoring"] == f"{json.loads((bench.RESULTS / 'scoring.json').read_text())['wall_s']:.0f}"
    marked = {line.split()[0] for line in lines if line.endswith("(only if named)")}
    assert marked == {name for name, suite in bench.SUITES.items() if not suite.by_default}
    assert "which of them run only if named" in " ".join(command.USAGE.split())
    titles = [line.index(suite.title) for line, suite in zip(lines, bench.SUITES.values(), strict=True)]
    assert {header.index("measures")} == set(titles)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["storage_larg"], "did you mean storage-large?"),
        (["list", "kernels"], "takes no argument"),
    ],
)
def test_wrong_names_are_refused_with_the_remedy(words: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(words)
    assert message in capsys.readouterr().err


def test_a_suite_may_be_named_as_its_file() -> None:
    assert bench.parse(["start_up"], bench.RESULTS).suites == ["start-up"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "set RAY_ADDRESS to host:port"),
        ("nonsense", "the address must be host:port"),
        ("127.0.0.1:1", "no Ray cluster at '127.0.0.1:1'"),
    ],
)
def test_a_wrong_cluster_is_refused_before_the_load_is_measured(
    monkeypatch, capsys, address: str | None, message: str
) -> None:
    monkeypatch.setattr(bench, "wait_until_idle", lambda patience: pytest.fail("the load was measured"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert bench.main(["cluster"]) == 2
    assert message in (printed := capsys.readouterr().err)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("below", ["", "more/folders"])
def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys, measured, below: str
) -> None:
    (file := tmp_path / "results.json").touch()
    with pytest.raises(SystemExit) as ended:
        bench.main(["counts", "--output", str(file / below)])
    assert ended.value.code == 2
    assert "is no folder" in capsys.readouterr().err
    assert not measured


def test_a_folder_that_does_not_exist_yet_is_accepted(tmp_path: Path, measured) -> None:
    assert bench.main(["counts", "--output", str(tmp_path / "new/folders")]) == 0
    assert measured
