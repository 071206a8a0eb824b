"""A ratio has an interval only if its pairs are enough for one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import bench
import compare_results
import harness
import suite_table
import target_table
from ratio_text import LEAST_FOR_INTERVAL


def measure(num_pairs: int) -> dict[str, Any]:
    pairs = np.array([(2.0 + 0.1 * turn, 1.0) for turn in range(num_pairs)])
    return harness.as_row("a step", harness.summarise("a loop", pairs))


def test_few_pairs_have_a_range_and_no_interval() -> None:
    row = measure(3)
    assert row["interval"] is None
    published = suite_table._format_ratios([row])
    assert "| 2.10 (2.00 to 2.20 in 3 pairs) |" in published
    assert "[" not in published
    assert "(2.00 to 2.20 in 3 pairs)" in bench._describe(row)


def test_intervals_of_few_pairs_in_earlier_results_are_not_published() -> None:
    row = measure(3) | {"interval": [2.05, 2.15]}
    assert "(2.00 to 2.20 in 3 pairs)" in suite_table._format_ratios([row])


def test_enough_pairs_have_an_interval() -> None:
    row = measure(LEAST_FOR_INTERVAL)
    low, high = row["interval"]
    assert 2.0 <= low < row["ratio"] < high <= 2.7
    assert f"2.35 [{low:.2f}, {high:.2f}]" in suite_table._format_ratios([row])


def test_a_scaled_ratio_has_no_interval_if_its_pairs_are_few() -> None:
    pairs = np.array([(2.0, 1.0), (3.0, 1.0)])
    assert harness.summarise("a loop", pairs).scale_rival(2.0).interval is None
    whole = harness.summarise("a loop", np.repeat(pairs, 10, axis=0)).scale_rival(2.0)
    assert whole.interval == pytest.approx((4.0, 6.0))


def test_few_pairs_decide_no_target() -> None:
    measure_ratio = target_table._of_ratio("a step", "a loop", 1.5)
    assert measure_ratio([measure(3)]) == ("2.1 × (2.0 to 2.2 in 3 pairs)", None)
    figure = measure_ratio([measure(20)])
    assert figure is not None
    assert figure[1] is True


@pytest.mark.parametrize(("num_pairs", "words"), [(3, "too few to show a change"), (20, "no change shown")])
def test_few_pairs_show_no_change(num_pairs: int, words: str) -> None:
    many, some = (np.array(measure(number)["ratios"]) for number in (20, num_pairs))
    assert words in compare_results._describe_change(many, some)
