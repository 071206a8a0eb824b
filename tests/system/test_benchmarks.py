"""The suites of ``ungan-dist bench`` run at their smallest size, time correct results, and count what is published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]
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
    ratio, memory = scoring["rows"]
    assert ratio["ratio"] > 0
    assert 0 < ratio["error"] <= ratio["tolerance"]
    assert memory["values"]["peak_of_the_process_MB"] > memory["values"]["log_odds_MB"]
    assert start_up["rows"][0]["values"]["wall_s"] > 0
    assert scoring["load"]["average"]


def test_stored_results_are_timed(tmp_path: Path) -> None:
    (storage,) = measure(tmp_path, "storage")
    assert len(storage["rows"]) == 6
    assert all(row["values"]["us_per_unit"] > 0 for row in storage["rows"])


def test_no_count_has_grown(tmp_path: Path) -> None:
    """CI guards counts: a change that raises one measures anew, so that the growth shows in its diff."""
    measure(tmp_path, "counts")
    done = run_bench("compare", BENCHMARKS / "results/counts.json", tmp_path / "counts.json")
    assert done.returncode == 0, done.stdout
    assert "no count has grown" in done.stdout
