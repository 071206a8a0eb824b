"""The verdict of several attacks: which of them decides, and how often it errs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_report import make_report

from ungan_dist.attack.evidence import AttackResult, Interval
from ungan_dist.attack.intervals import student_t_interval
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.verdicts import combine_attacks, trace_level
from ungan_dist.config.attack import AttackConfig

DELTA = 0.05
NAMES = ("lira", "rmia", "calibrated_loss", "loss")


def between(low: float, high: float) -> Interval:
    return Interval(mean=(low + high) / 2, low=low, high=high, level=0.9, kind="student_t", per_seed=[])


def result(low: float, high: float, wider: float = 0.01) -> AttackResult:
    return AttackResult(auc=between(0.5, 0.6), gap=between(low, high), corrected_gap=between(low - wider, high + wider))


@pytest.mark.parametrize(
    ("lira", "other", "outcome", "attack"),
    [
        ((-0.01, 0.02), (-0.02, 0.01), "equivalent", "lira"),
        ((-0.01, 0.02), (-0.02, 0.049), "equivalent", "rmia"),
        ((-0.01, 0.02), (0.01, 0.06), "inconclusive", "rmia"),
        ((-0.01, 0.02), (0.07, 0.09), "under-forgotten", "rmia"),
        ((-0.01, 0.02), (0.055, 0.09), "inconclusive", "rmia"),  # beyond δ at 90 %, but not corrected
        ((0.07, 0.09), (-0.01, 0.02), "under-forgotten", "lira"),
        ((-0.01, 0.02), (-0.09, -0.07), "over-forgotten", "rmia"),
        ((-0.46, 0.46), (-0.01, 0.02), "no power: the interval is too wide", "lira"),
    ],
)
def test_the_strongest_attack_decides(
    lira: tuple[float, float], other: tuple[float, float], outcome: str, attack: str
) -> None:
    verdict = combine_attacks({"lira": result(*lira), "rmia": result(*other)}, DELTA)
    assert (verdict.outcome, verdict.attack) == (outcome, attack)
    if attack != "lira" or outcome == "equivalent":
        assert verdict.smallest_delta == max(map(abs, (*lira, *other)))
    assert verdict.gap == between(*lira)


def verdicts(means: list[float], repeats: int = 2000, num_seeds: int = 5) -> dict[str, float]:
    """Shares of verdicts of simulated audits with correlated attacks of these true gaps."""
    rng = np.random.default_rng(0)
    counts: dict[str, float] = {}
    for _ in range(repeats):
        shared, own = rng.normal(size=(num_seeds, 1)), rng.normal(size=(num_seeds, len(NAMES)))
        gaps = np.array(means) + 0.015 * (np.sqrt(0.6) * shared + np.sqrt(0.4) * own)
        attacks = {
            name: AttackResult(
                auc=between(0.5, 0.6),
                gap=student_t_interval(column, 0.90),
                corrected_gap=student_t_interval(column, trace_level(name, len(NAMES))),
            )
            for name, column in zip(NAMES, gaps.T, strict=True)
        }
        outcome = combine_attacks(attacks, DELTA).outcome
        counts[outcome] = counts.get(outcome, 0) + 1 / repeats
    return counts


@pytest.mark.parametrize(
    ("means", "wrong"),
    [
        ([0.0, 0.0, 0.0, DELTA], ("equivalent", "over-forgotten")),  # one attack sees a leak as large as the margin
        ([0.0, 0.0, 0.0, -DELTA], ("equivalent", "under-forgotten")),
        ([DELTA] * 4, ("under-forgotten", "equivalent", "over-forgotten")),  # at the margin a trace is not yet one
        ([0.0] * 4, ("under-forgotten", "over-forgotten")),
    ],
)
def test_errors_stay_below_five_per_cent(means: list[float], wrong: tuple[str, ...]) -> None:
    shares = verdicts(means)
    for outcome in wrong:  # three standard errors of 2,000 audits above .05
        assert shares.get(outcome, 0.0) <= 0.065


def test_the_levels_share_the_error_of_one_interval() -> None:
    errors = [1 - trace_level(name, len(NAMES)) for name in NAMES]
    assert sum(errors) == pytest.approx(0.10)
    assert errors[0] == pytest.approx(0.05)


def test_without_correction_the_errors_of_four_attacks_add_up() -> None:
    """What the correction is for: the same at the margin, with each attack's own 90 % interval."""
    rng = np.random.default_rng(0)
    gaps = DELTA + 0.015 * rng.normal(size=(2000, 5, 4))
    found = [any(student_t_interval(column, 0.90).low >= DELTA for column in audit.T) for audit in gaps]
    assert np.mean(found) > 0.10


def test_a_method_that_hides_from_lira_alone_is_found_by_another_attack() -> None:
    report = make_report(5)
    hidden = [
        dataclasses.replace(
            item,
            method="ungan",
            scores=retrain.scores,
            further_scores={"rmia": retrain.scores, "loss": retrain.scores + 2.0 * np.isin(range(800), item.forget)},
        )
        for item in report.evidence
        for retrain in report.evidence
        if (item.method, retrain.method, item.seed) == ("ungan", "retrain", retrain.seed)
    ]
    others = [item for item in report.evidence if item.method != "ungan"]
    attack = AttackConfig(delta=DELTA, num_resamples=100)
    rows = {row.method: row for row in score_rows([*others, *hidden], attack, num_test=297)}
    assert rows["ungan"].attacks["lira"].gap == rows["ungan"].verdict.gap
    assert (rows["ungan"].verdict.outcome, rows["ungan"].verdict.attack) == ("under-forgotten", "loss")
    corrected = rows["ungan"].attacks["loss"].corrected_gap
    assert corrected is not None
    assert corrected.level == pytest.approx(1 - 0.10 / 2 / 2)
