"""The suites of ``ungan-dist bench`` run at their smallest size, time correct results, and count what is published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
pytest.importorskip("triton")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))


def run_bench(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "ungan_dist", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def measure(output: Path, *suites: str) -> list[dict[str, Any]]:
    """Run suites at their smallest size, and return their results."""
    done = run_bench(*suites, "--quick", "--busy", "--output", output)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((output / f"{name.replace('-', '_')}.json").read_text()) for name in suites]


def test_scoring_and_start_up_are_measured(tmp_path: Path) -> None:
    scoring, start_up = measure(tmp_path, "scoring", "start-up")
    ratio, memory, whole = scoring["rows"]
    assert ratio["rival"] != whole["rival"]
    for row in (ratio, whole):
        assert row["ratio"] > 0
        assert 0 < row["error"] <= row["tolerance"]
    assert memory["values"]["peak_of_the_process_MB"] > memory["values"]["log_odds_MB"]
    assert start_up["rows"][0]["values"]["wall_s"] > 0
    assert scoring["load"]["average"]


def test_stored_results_are_timed(tmp_path: Path) -> None:
    small, large = measure(tmp_path, "storage", "storage-large")
    for storage, size in ((small, "100 units"), (large, "200 units")):
        assert len(storage["rows"]) == 6
        assert all(row["values"]["us_per_unit"] > 0 and size in row["subject"] for row in storage["rows"])


@pytest.mark.chaos
def test_rivals_train_as_well_as_ours_and_are_timed(tmp_path: Path) -> None:
    (rivals,) = measure(tmp_path, "rivals")
    trained = [row for row in rivals["rows"] if row["subject"].startswith("a shadow model")]
    libraries = ["joblib", "Ray tasks", "Ray Tune", "Ray Data"]
    assert [row["rival"] for row in trained] == ["plain PyTorch", "a public LiRA code", *libraries]
    assert all(row["ratio"] > 0 and row["error"] <= row["tolerance"] for row in trained)
    slept = [row for row in rivals["rows"] if "sleeps" in row["subject"]]
    assert [row["rival"] for row in slept] == libraries[1:]
    assert all(min(row["rival_ms"], row["ours_ms"]) >= 100 / 8 for row in slept)  # 8 units, each sleeps 0.1 s
    (accuracy,) = (row["values"] for row in rivals["rows"] if row["subject"].startswith("accuracy"))
    assert accuracy["ours"] > 0.5
    assert len(accuracy) == 7


@pytest.mark.chaos
def test_simulated_fleets_agree_with_real_ones_on_1_2_and_4_nodes(tmp_path: Path) -> None:
    (fleet,) = measure(tmp_path, "fleet")
    compared = {row["subject"]: row for row in fleet["rows"] if row.get("target") == "within 10 %"}
    nodes = [f"{num} nodes" for num in (1, 2, 4)]
    assert [sum(kind in subject for subject in compared) for kind in ("strong", "weak", *nodes)] == [3, 3, 2, 2, 2]
    assert all(row["met"] for row in compared.values()), compared
    wall = {subject: row["values"]["real_s"] for subject, row in compared.items()}
    assert all(seconds >= 6.0 for seconds in wall.values()), "a unit takes 2 s at least"


def test_fleets_are_simulated_at_the_measured_costs(tmp_path: Path) -> None:
    (fleets,) = measure(tmp_path, "simulated-fleets")
    assert fleets["quick"]
    costs, plain, killed, never_replaced, *simulated = fleets["rows"]
    published = json.loads((BENCHMARKS / "results/fleet.json").read_text())
    assert costs["values"]["commit"] == published["measured_on"]["commit"]
    assert plain["met"]
    assert killed["met"]
    assert killed["values"]["real_s"] > plain["values"]["real_s"]
    assert "met" not in never_replaced
    assert len(simulated) == 3
    assert all(0 < row["values"]["efficiency"] < 1 for row in simulated)
    assert all(row["values"]["object_store_requests"] > 64 for row in simulated)


def test_no_count_has_grown(tmp_path: Path) -> None:
    """CI guards counts: a change that raises one measures anew, so that the growth shows in its diff."""
    measure(tmp_path, "counts")
    done = run_bench("compare", BENCHMARKS / "results/counts.json", tmp_path / "counts.json")
    assert done.returncode == 0, done.stdout
    assert "no count has grown" in done.stdout
