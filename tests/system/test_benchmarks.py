"""The benchmarks run at their smallest size and time correct results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench
pytest.importorskip("triton")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


def test_scoring_agrees_with_a_loop_over_examples() -> None:
    import scoring

    row = scoring.measure(num_shadows=32, num_examples=500)
    assert row["largest_difference"] < 1e-3  # the loop computes in float32


def test_the_policy_drops_finished_units() -> None:
    import scheduling

    row = scheduling.measure_policy(num_units=500, num_workers=16)
    assert row["last_bytes"] < row["first_bytes"]
    assert 0 < row["median_decision_ms"] <= row["p999_decision_ms"]


def test_a_command_is_timed() -> None:
    import start_up

    assert start_up.seconds("--version") > 0
