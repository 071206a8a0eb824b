"""The page on benchmarks states what its figures are figures of."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import scoring

PAGE = " ".join((Path(__file__).parents[2] / "docs/benchmarks.md").read_text().split())


def test_the_part_of_the_examples_that_the_loop_is_timed_on_is_stated() -> None:
    times = 45_000 // scoring.PART
    assert f"timed on {scoring.PART} examples, and its time is multiplied by {times} for all 45,000" in PAGE
