"""Distances of outputs on the forget set, against SciPy, and in a run that asks for them after it was finished."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from in_process import run_command
from scipy.spatial.distance import jensenshannon
from small_audit import SMALL_OPTIONS

from ungan_dist.attack.distances import activation_distance, jensen_shannon
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import execute

pytestmark = pytest.mark.usefixtures("without_figures")


def test_they_are_those_of_scipy_and_numpy() -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.dirichlet(np.full(5, 0.3), size=40) for _ in range(2))
    first[0] = [1, 0, 0, 0, 0]
    expected = np.mean([jensenshannon(one, other) ** 2 for one, other in zip(first, second, strict=True)])
    assert jensen_shannon(first, second) == pytest.approx(expected, abs=1e-12)
    assert activation_distance(first, second) == pytest.approx(np.linalg.norm(first - second, axis=1).mean())


def test_a_finished_run_is_asked_for_them(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    output = shutil.copytree(finished_run, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (output / "run/models/0").iterdir()}
    without = json.loads((output / "run/table.json").read_text())
    words = ("run", "digits", *SMALL_OPTIONS, "--output", output)
    assert run_command(*words, "--report.distances").returncode == 0
    assert {path.name: path.read_bytes() for path in (output / "run/models/0").iterdir()} == before
    table = json.loads((output / "run/table.json").read_text())
    found = {row["method"]: row.pop("distances") for row in table["rows"]}
    assert table == without, "nothing else changes"

    outputs = {name: np.load(output / f"run/log_odds/0/{name}-outputs.npy") for name in found}
    retrained = outputs["retrain"][0]
    assert np.array_equal(outputs["retrain"][1], outputs["ungan"][1]), "initial weights are those of the seed"
    for name, (model, initial) in outputs.items():
        divergence = np.mean([jensenshannon(*pair) ** 2 for pair in zip(model, initial, strict=True)])
        assert found[name]["zrf"] == [pytest.approx(1 - divergence, abs=1e-5)]
        if name != "retrain":
            expected = np.linalg.norm(model - retrained, axis=1).mean()
            assert found[name]["activation_distance_to_retrain"] == [pytest.approx(expected, abs=1e-5)]
    assert found["retrain"].keys() == {"zrf"}

    # a report that is written again has them too, and so has the export
    assert run_command("report", output / "run").returncode == 0
    again = json.loads((output / "run/table.json").read_text())
    assert {row["method"]: row.pop("distances") for row in again["rows"]} == found
    exported = run_command("export", output / "run").stdout
    (original, *_) = csv.DictReader(io.StringIO(exported))
    assert float(original["js_to_retrain"]) == pytest.approx(found["original"]["js_to_retrain"][0], abs=1e-5)
    assert run_command("verify", output / "run").returncode == 0
