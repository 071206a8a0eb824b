"""``make reproduce``: which part of Table 1 is run, and the table beside the paper's figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ungan_dist.commands.options import recipe_config
from ungan_dist.config.methods import ROWS

pytest.importorskip("triton")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import reproduce  # noqa: E402


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run folder with the published results of the recipe `paper`, cut down."""
    results = json.loads((BENCHMARKS / "results/paper-cut.json").read_text())
    for name in ("table", "timings"):
        (tmp_path / f"{name}.json").write_text(json.dumps(results[name]))
    return tmp_path


def test_the_table_has_the_figures_of_the_paper_and_of_the_run(finished: Path) -> None:
    text = reproduce.write_table(finished, "a part", 7200, 1.5)
    assert "fits in 2 hours: a part" in text
    assert "fits in 1 hour: " in reproduce.write_table(finished, "a part", 3600, 1.5)
    (row,) = [line for line in text.splitlines() if line.startswith("| UnGAN |")]
    found = {row["method"]: row for row in json.loads((finished / "table.json").read_text())["rows"]}["ungan"]
    accuracy, tnr = found["accuracy"]["retain"], found["tnr_at_fnr"]["0.01"]
    assert f"| 93.52; {100 * accuracy['mean']:.2f} [{100 * accuracy['low']:.2f}, " in row
    assert f"| 10.32; {100 * tnr['mean']:.2f} [" in row
    assert row.endswith("| 13.06; 214 | no power: the target does not leak |")
    assert "8 shadow models, 1 seed;" in text


def test_every_row_of_the_paper_is_a_method() -> None:
    assert set(reproduce.PAPER) <= set(ROWS)
    for words in reproduce.STEPS.values():
        assert recipe_config(["paper", *reproduce.ROWS, *words], command="run").methods == tuple(reproduce.PAPER)


@pytest.mark.parametrize(("budget", "index"), [("200h", 0), ("6h", 3), ("30min", 5)])
def test_the_largest_step_within_the_budget_is_run(
    budget: str, index: int, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter((100.0, 40.0, 20.0, 4.0, 2.0, 0.33))
    started: list[list[str]] = []
    monkeypatch.setattr(reproduce, "plan_seconds", lambda command: 3600 * next(hours))
    monkeypatch.setattr(reproduce, "find_run", lambda command: finished)
    monkeypatch.setattr(subprocess, "run", lambda words: started.append(words) or SimpleNamespace(returncode=0))
    monkeypatch.setattr(reproduce, "describe_commit", lambda: "abc")
    monkeypatch.setattr(reproduce, "hardware", lambda: {"cores": 2, "cpu": "x", "gpus": []})
    results = finished / "table1.md"
    assert reproduce.main(["--budget", budget, "--results", str(results)]) == 0
    (command,) = started
    assert [word for word in command if word in reproduce.STEPS[list(reproduce.STEPS)[index]]] == list(
        reproduce.STEPS[list(reproduce.STEPS)[index]]
    )
    assert list(reproduce.STEPS)[index] in results.read_text()


def test_a_budget_for_nothing_names_the_least(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(reproduce, "plan_seconds", lambda command: 7200.0)
    assert reproduce.main(["--budget", "1h"]) == 3
    assert "needs a budget of 3.0h" in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["soon", "0h", "0.0min", "1.2.3h", ".h"])
def test_a_budget_that_is_no_time_is_refused(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["--budget", budget])
    assert ended.value.code == 2
    assert "is no time such as 90s, 45min or 2h" in capsys.readouterr().err


def test_a_plan_that_is_refused_ends_it_with_the_same_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIFAR10_PARQUET", str(tmp_path))  # no data
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["--budget", "5min"])
    assert ended.value.code == 2
