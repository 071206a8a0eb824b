"""Forget sets of one example, and of the examples that an earlier run's shadow models memorised most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS

pytestmark = pytest.mark.usefixtures("without_figures")


def options(output: Path, name: str, *more: str | Path) -> list[str | Path]:
    """The small audit beside the finished one, whose shadow models it finds trained, without UnGAN."""
    chosen: list[str | Path] = [*SMALL_OPTIONS[:-1], name, "--output", output, *more]
    chosen[chosen.index("original,retrain,ungan")] = "original,retrain"
    return ["run", "digits", *chosen]


def read_table(output: Path, name: str) -> dict[str, Any]:
    return json.loads((output / name / "table.json").read_text())


def test_one_example_has_no_power_and_is_called_neither_forgotten_nor_not(output: Path) -> None:
    done = run_command(*options(output, "one", "--split.forget", "random=1"))
    assert done.returncode == 0, done.stderr
    table = read_table(output, "one")
    assert table["sizes"]["forget"] == 1
    assert table["rows"][0]["verdict"]["outcome"] == "no power: the interval is too wide"


@pytest.mark.process
def test_the_hardest_examples_are_those_of_an_earlier_runs_shadow_models(output: Path) -> None:
    asked = options(output, "hard", "--split.forget", "hardest=20", "--given.scores", output / "run")
    assert_refused(run_command(*asked), "records.parquet does not exist", "ungan-dist export", "--records")
    assert run_command("export", output / "run", "--records").returncode == 0
    done = run_command(*asked)
    assert done.returncode == 0, done.stderr
    assert "the 40 hardest examples of the pool" in " ".join(done.stdout.split())
    assert run_command("export", output / "hard", "--records").returncode == 0
    first, now = (pq.read_table(output / name / "records.parquet").to_pylist() for name in ("run", "hard"))
    gains = {row["example"]: row["in_mean"] - row["out_mean"] for row in first}
    ranked = sorted(gains, key=lambda example: -gains[example])
    sets = {row["example"]: row["set"] for row in now}
    of_hardest = [sets[example] for example in ranked[:40]]
    assert of_hardest.count("forget") == of_hardest.count("non-member") == 20
    assert not {"forget", "non-member"} & {sets[example] for example in ranked[40:]}
    # the same command trains nothing, and a report finds the scores again
    assert "0 of" not in run_command(*asked).stderr
    assert run_command("report", output / "hard").returncode == 0
    (output / "run/records.parquet").unlink()
    assert_refused(run_command("report", output / "hard"), "records.parquet does not exist", "restore them")
