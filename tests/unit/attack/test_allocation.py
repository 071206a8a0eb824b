"""Which stage is worth buying."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from ungan_dist.attack.allocation import NUMBERS, StageSpread, compare_unlearnings, read_stage_spread


@pytest.mark.parametrize("ratio", [0.1, 1.0, 3.0])
def test_the_cheapest_number_is_the_one_of_the_closed_form(ratio: float) -> None:
    """The best J of (σ_o² + σ_u²/J)(C_o + J C_u) is σ_u/σ_o √(C_o/C_u)."""
    costs = compare_unlearnings(
        StageSpread(originals=0.01, unlearnings=0.01 * ratio), 0.0, original_seconds=40.0, unlearning_seconds=10.0
    )
    best = ratio * sqrt(4.0)
    assert min(costs, key=lambda number: costs[number]) == min(NUMBERS, key=lambda number: abs(np.log(number / best)))


def test_the_cost_is_that_of_simulated_audits_with_the_same_interval() -> None:
    rng = np.random.default_rng(0)
    originals, unlearnings = 0.02, 0.03
    variance: dict[int, float] = {}
    for number in (1, 4):
        means = originals * rng.normal(size=(20000, 3)) + unlearnings * rng.normal(size=(20000, 3, number)).mean(2)
        variance[number] = float(means.mean(1).var()) * 3 * (60.0 + number * 10.0)
    spread = StageSpread(originals=originals, unlearnings=unlearnings)
    costs = compare_unlearnings(spread, 0.0, original_seconds=60.0, unlearning_seconds=10.0)
    assert costs[4] == pytest.approx(variance[4] / variance[1], rel=0.05)


def test_forget_sets_that_each_seed_draws_make_seeds_worth_more() -> None:
    spread = StageSpread(originals=0.01, unlearnings=0.02)
    without, drawn = (
        compare_unlearnings(spread, examples, original_seconds=60.0, unlearning_seconds=10.0)
        for examples in (0.0, 0.05)
    )
    assert without[4] < 1 < drawn[4]


def test_the_spread_of_a_table_is_the_mean_variance_of_its_rows() -> None:
    def row(originals: float | None, unlearnings: float) -> dict[str, object]:
        stage = None if originals is None else {"value": originals}
        return {"stages": {"gap": {"originals": stage, "unlearnings": {"value": unlearnings}}}}

    found = read_stage_spread([{"method": "original"}, row(0.03, 0.01), row(0.04, 0.07), row(None, 9.0)])
    assert found is not None
    assert found.originals == pytest.approx(sqrt((0.03**2 + 0.04**2) / 2))
    assert found.unlearnings == pytest.approx(0.05)
    assert read_stage_spread([{"method": "original"}, row(None, 0.1)]) is None
