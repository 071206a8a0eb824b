"""The split of variance by stage, and the verdict's interval with several unlearnings of each original."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from synthetic_report import evidence_of

from ungan_dist.attack.evidence import Deviation
from ungan_dist.attack.intervals import student_t_interval
from ungan_dist.attack.mann_whitney import Influence, average_influences, gap_interval, measure_influence
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.stages import measure_sampling, split_stages
from ungan_dist.config.attack import AttackConfig


def draw(rng: np.random.Generator, shape: tuple[int, int], originals: float, unlearnings: float) -> np.ndarray:
    return originals * rng.normal(size=(shape[0], 1)) + unlearnings * rng.normal(size=shape)


def fit_reml(values: np.ndarray) -> np.ndarray:
    """Maximise the restricted likelihood of a mean and two variances, from its definition."""
    num_originals, num_unlearnings = values.shape
    same = np.kron(np.eye(num_originals), np.ones((num_unlearnings, num_unlearnings)))
    ones, y = np.ones(values.size), values.ravel()

    def loss(logarithms: np.ndarray) -> float:
        covariance = np.exp(logarithms[0]) * same + np.exp(logarithms[1]) * np.eye(values.size)
        inverse = np.linalg.inv(covariance)
        information = ones @ inverse @ ones
        rest = y - ones * (ones @ inverse @ y) / information
        return np.linalg.slogdet(covariance)[1] + np.log(information) + rest @ inverse @ rest

    found = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000})
    return np.exp(found.x / 2)


def test_balanced_values_give_the_estimates_of_reml() -> None:
    values = draw(np.random.default_rng(1), (6, 4), originals=2.0, unlearnings=1.0)
    split = split_stages(values.tolist())
    assert split is not None
    assert split.originals is not None
    np.testing.assert_allclose([split.originals.value, split.unlearnings.value], fit_reml(values), rtol=1e-4)
    assert split.values == values.tolist()


def covers(deviation: Deviation | None, truth: float) -> bool:
    assert deviation is not None
    return deviation.low <= truth <= deviation.high


@pytest.mark.parametrize(("shape", "originals"), [((3, 4), 1.0), ((5, 2), 0.3), ((8, 3), 0.0)])
def test_intervals_of_both_stages_cover(shape: tuple[int, int], originals: float) -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(600):
        split = split_stages(draw(rng, shape, originals, unlearnings=0.5).tolist())
        assert split is not None
        covered += [covers(split.originals, originals), covers(split.unlearnings, 0.5)]
    assert (covered / 600 >= 0.93).all(), covered / 600


def test_one_unlearning_has_no_split_and_one_original_no_spread_of_originals() -> None:
    assert split_stages([[0.5], [0.6]]) is None
    split = split_stages([[0.5, 0.6]])
    assert split is not None
    assert split.originals is None


NUM_FORGET, NUM_REST = 30, 60


def simulate_gaps(
    rng: np.random.Generator, num_originals: int, num_unlearnings: int, spread: float
) -> list[list[Influence]]:
    """Gaps between unlearned and retrained models; each original shifts the forget examples of all its unlearnings."""
    size = NUM_FORGET + NUM_REST
    forget, rest = np.arange(NUM_FORGET), np.arange(NUM_FORGET, size)
    seeds: list[list[Influence]] = []
    for _ in range(num_originals):
        shared, leak = rng.normal(size=size), spread * rng.normal()
        gaps: list[Influence] = []
        for _ in range(num_unlearnings):
            unlearned, retrained = shared + rng.normal(size=(2, size))
            unlearned[forget] += leak
            gaps.append(measure_influence(unlearned, forget, rest).minus(measure_influence(retrained, forget, rest)))
        seeds.append(gaps)
    return seeds


@pytest.mark.parametrize("num_unlearnings", [1, 4])
def test_the_verdicts_interval_covers_with_three_originals_that_vary_much(num_unlearnings: int) -> None:
    rng = np.random.default_rng(num_unlearnings)
    covered = wrong = 0
    for _ in range(300):
        seeds = simulate_gaps(rng, 3, num_unlearnings, spread=1.0)
        gap = gap_interval([average_influences(of) for of in seeds], 0.90, num_models=2)
        covered += gap.low <= 0 <= gap.high
        every = student_t_interval([one.estimate for of in seeds for one in of], 0.90)
        wrong += every.low <= 0 <= every.high
    assert covered / 300 >= 0.86
    if num_unlearnings > 1:  # twelve unlearnings of three originals are not twelve originals
        assert wrong / 300 < 0.80


def test_the_draw_of_the_examples_is_not_taken_for_the_originals() -> None:
    """Originals are alike here: what is left is the noise of an estimate that is cut at 0."""
    rng = np.random.default_rng(2)
    forget, rest = np.split(np.arange(NUM_FORGET + NUM_REST), [NUM_FORGET])
    found = np.zeros(2)
    for _ in range(100):
        drawn = 1.5 * rng.normal(size=(6, 1, NUM_FORGET + NUM_REST))  # how hard each seed's examples are
        scores = drawn + rng.normal(size=(6, 2, NUM_FORGET + NUM_REST))
        seeds = [[measure_influence(one, forget, rest) for one in of] for of in scores]
        values = [[one.estimate for one in of] for of in seeds]
        for place, split in enumerate((split_stages(values, measure_sampling(seeds)), split_stages(values))):
            assert split is not None
            assert split.originals is not None
            found[place] += split.originals.value**2
    assert found[0] < 0.5 * found[1], found


def test_a_seed_counts_once_with_several_unlearnings() -> None:
    attack = AttackConfig(delta=0.05, num_resamples=100)
    first = [evidence_of(method, seed) for method in ("original", "retrain", "ungan") for seed in range(3)]
    rng = np.random.default_rng(5)
    again = [
        dataclasses.replace(
            item,
            unlearning=1,
            scores=item.scores + 0.5 * rng.normal(size=item.scores.size),
            accuracy={name: share - 0.02 for name, share in item.accuracy.items()},
        )
        for item in first
        if item.method != "original"
    ]
    once = {row.method: row for row in score_rows(first, attack, num_test=297)}
    twice = {row.method: row for row in score_rows([*again, *first], attack, num_test=297)}
    other = {row.method: row for row in score_rows([*first[:3], *again], attack, num_test=297)}
    assert not any(row.stages for row in once.values())
    assert twice["original"].stages == {}
    for method in ("retrain", "ungan"):
        pairs = zip(once[method].auc.per_seed, other[method].auc.per_seed, strict=True)
        assert twice[method].auc.per_seed == pytest.approx([(one + two) / 2 for one, two in pairs])
        assert twice[method].accuracy["test"].per_seed == pytest.approx([0.89] * 3)
    gap, split = twice["ungan"].verdict.gap, twice["ungan"].stages["gap"]
    assert gap is not None
    assert gap.per_seed == pytest.approx([float(np.mean(of)) for of in split.values])
    assert set(twice["ungan"].stages) == {"auc", "gap", *(f"accuracy_{name}" for name in first[0].accuracy)}
    assert twice["ungan"].stages["accuracy_test"].unlearnings.value == pytest.approx(0.02 / np.sqrt(2))


def test_a_collapse_of_a_single_unlearning_is_a_lost_utility() -> None:
    from ungan_dist.attack.verdicts import judge_rows

    attack = AttackConfig(delta=0.05, num_resamples=100)
    found = [
        dataclasses.replace(evidence_of(method, seed), unlearning=number)
        for method in ("original", "retrain", "ungan")
        for seed in range(3)
        for number in range(1 if method == "original" else 8)
    ]
    last = found[-1]
    found[-1] = dataclasses.replace(last, accuracy=last.accuracy | {"test": 0.78})  # .12 below, .015 of the seed's mean
    rows = judge_rows(
        score_rows(found, attack, num_test=297), attack, num_classes=10, sizes={"test": 297, "retain": 320}
    )
    [row] = [row for row in rows if row.method == "ungan"]
    assert row.utility == "utility lost"
    assert "collapsed under 1 of 24 unlearnings" in row.caveat
