"""Looks share the error of one audit, and with it a sequential audit errs no more often than a single one."""

from __future__ import annotations

import sys
from math import sqrt
from pathlib import Path

import pytest

from ungan_dist.attack.looks import list_levels, spend_error
from ungan_dist.attack.verdicts import VERDICT_LEVEL, trace_level

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

import sequential

NUM_AUDITS = 500
LARGEST = 0.05 + 3 * sqrt(0.05 * 0.95 / NUM_AUDITS)


@pytest.mark.parametrize("num_looks", range(1, 9))
def test_the_looks_share_one_error(num_looks: int) -> None:
    assert sum(spend_error(num_looks)) == 1
    assert spend_error(num_looks) == sorted(spend_error(num_looks))
    levels = list_levels(num_looks, VERDICT_LEVEL)
    assert sum(1 - level for level in levels) == pytest.approx(1 - VERDICT_LEVEL)
    for level in levels:  # the attacks share the error of their look
        attacks = [trace_level(name, 4, level=level) for name in ("lira", "rmia", "calibrated_loss", "loss")]
        assert sum(1 - one for one in attacks) == pytest.approx(1 - level)


@pytest.mark.parametrize("case", sequential.CASES, ids=lambda case: case.name)
def test_error_rates_hold_under_null_alternative_and_drift(case: sequential.Case) -> None:
    found = sequential.simulate(case, "looks", NUM_AUDITS, seed=1)
    assert found["false_equivalence"] <= LARGEST
    assert found["false_trace"] <= LARGEST


def test_without_the_correction_a_sequential_audit_errs_too_often() -> None:
    at_delta = next(case for case in sequential.CASES if case.name == "all attacks at δ")
    assert sequential.simulate(at_delta, "uncorrected", NUM_AUDITS, seed=1)["false_trace"] > LARGEST


def test_a_clear_leak_and_a_clear_equality_need_fewer_seeds_than_one_large_audit() -> None:
    for name in ("no leak", "all attacks at 2 δ"):
        case = next(case for case in sequential.CASES if case.name == name)
        found = sequential.simulate(case, "looks", NUM_AUDITS, seed=1)
        assert found["undecided"] < 0.1
        assert found["seeds"] < sequential.simulate(case, "once", 1)["seeds"]
