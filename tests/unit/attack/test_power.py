"""The formulas of power against simulations that go through the audit's own intervals, verdicts and fits."""

from __future__ import annotations

import dataclasses
import re
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from synthetic_report import make_report

from ungan_dist.attack.evidence import AttackResult, Remedies
from ungan_dist.attack.intervals import student_t_interval
from ungan_dist.attack.lira import fit_shadows
from ungan_dist.attack.mann_whitney import gap_interval, measure_influence
from ungan_dist.attack.metrics import auc
from ungan_dist.attack.power import (
    Design,
    auc_deviation,
    equivalence_probability,
    estimate_power,
    expected_half_width,
    measure_smallest_delta,
    observable_leak,
    smallest_delta,
)
from ungan_dist.attack.verdicts import combine_attacks, decide_verdict
from ungan_dist.commands.plan import _power
from ungan_dist.config.attack import ATTACKS
from ungan_dist.config.recipes import custom, digits
from ungan_dist.data.membership import draw_membership
from ungan_dist.report.power import describe_power
from ungan_dist.runs.forecast.outlook import Outlook, compare_designs, summary_lines
from ungan_dist.runs.given import find_remedies

DIGITS = Design(num_forget=135, num_non_members=675, num_seeds=5, num_shadows=64, num_attacks=1)


def gaps(generator: np.random.Generator, design: Design, num_runs: int) -> np.ndarray:
    """Simulate gaps of methods equal to Retrain, runs × seeds, from uninformative scores."""
    values = np.empty((num_runs, design.num_seeds))
    for run, seed in np.ndindex(values.shape):
        pair = [auc(generator.normal(size=design.num_forget), generator.normal(size=design.num_non_members))
                for _ in range(2)]  # fmt: skip
        values[run, seed] = pair[0] - pair[1] + generator.normal(scale=design.spread or 1e-300)
    return values


def test_the_deviation_of_an_auc_is_what_random_scores_show() -> None:
    generator = np.random.default_rng(0)
    aucs = [auc(generator.normal(size=30), generator.normal(size=200)) for _ in range(3000)]
    assert np.std(aucs) == pytest.approx(auc_deviation(30, 200), rel=0.03)


@pytest.mark.parametrize(
    "design",
    [
        DIGITS,
        Design(num_forget=50, num_non_members=200, num_seeds=3, num_shadows=16, num_attacks=1),
        Design(num_forget=50, num_non_members=200, num_seeds=8, num_shadows=16, num_attacks=1, spread=0.04),
    ],
    ids=lambda design: f"{design.num_seeds} seeds, spread {design.spread}",
)
def test_intervals_and_verdicts_of_simulated_runs_come_out_as_forecast(design: Design) -> None:
    intervals = [student_t_interval(list(run), 0.90) for run in gaps(np.random.default_rng(1), design, 700)]
    half_widths = [(interval.high - interval.low) / 2 for interval in intervals]
    assert np.mean(half_widths) == pytest.approx(expected_half_width(design), rel=0.05)
    delta = smallest_delta(design)
    passed = np.mean([decide_verdict(interval, delta).outcome == "equivalent" for interval in intervals])
    assert passed == pytest.approx(0.80, abs=0.045)
    smaller = np.mean([decide_verdict(interval, 0.7 * delta).outcome == "equivalent" for interval in intervals])
    assert smaller == pytest.approx(equivalence_probability(design, 0.7 * delta), abs=0.045)
    assert smaller < 0.7


@pytest.mark.parametrize("num_forget", [1, 4, 24, 135])
def test_with_one_seed_the_interval_is_as_wide_as_forecast(num_forget: int) -> None:
    design = Design(num_forget=num_forget, num_non_members=675, num_seeds=1, num_shadows=64, num_attacks=1)
    generator = np.random.default_rng(2)
    forget, rest = np.arange(num_forget), np.arange(num_forget, num_forget + 675)
    intervals = []
    for _ in range(150):
        one, other = (
            measure_influence(scores, forget, rest) for scores in generator.normal(size=(2, len(rest) + num_forget))
        )
        intervals.append(gap_interval([one.minus(other)], 0.90, num_models=2))
    # the bounds of an AUC cut what an interval around an extreme gap would have
    half_width = np.mean([interval.mean - interval.low for interval in intervals if interval.low > -1])
    assert half_width == pytest.approx(expected_half_width(design), rel=0.05 if num_forget > 10 else 0.25)
    if num_forget > 10:
        passed = np.mean(
            [decide_verdict(interval, smallest_delta(design)).outcome == "equivalent" for interval in intervals]
        )
        assert passed == pytest.approx(0.80, abs=0.15)


@pytest.mark.parametrize(("common", "least", "most"), [(0.0, 0.72, 0.88), (0.7, 0.80, 0.97)])
@pytest.mark.parametrize("num_seeds", [1, 5])
def test_all_attacks_of_a_verdict_pass_as_often_as_forecast(
    num_seeds: int, common: float, least: float, most: float
) -> None:
    """Audits of a method equal to Retrain, by four attacks that share a part of their scores."""
    design = Design(num_forget=40, num_non_members=120, num_seeds=num_seeds, num_shadows=64)
    generator = np.random.default_rng(4)
    forget, rest = np.arange(40), np.arange(40, 160)

    def simulate(delta: float, num_audits: int) -> float:
        passed = 0
        for _ in range(num_audits):
            shared = generator.normal(size=(num_seeds, 1, 2, 160))
            scores = sqrt(common) * shared + sqrt(1 - common) * generator.normal(size=(num_seeds, 4, 2, 160))
            found = [
                [measure_influence(one, forget, rest).minus(measure_influence(other, forget, rest))
                 for one, other in scores[:, attack]]
                for attack in range(4)
            ]  # fmt: skip
            gaps = [gap_interval(seeds, 0.90, num_models=2) for seeds in found]
            attacks = {
                name: AttackResult(auc=gap, gap=gap, corrected_gap=gap) for name, gap in zip(ATTACKS, gaps, strict=True)
            }
            passed += combine_attacks(attacks, delta).outcome == "equivalent"
        return passed / num_audits

    delta = smallest_delta(design)
    assert least < simulate(delta, 150) < most
    # the margin of one attack alone promises too much
    alone = smallest_delta(dataclasses.replace(design, num_attacks=1))
    assert alone < 0.95 * delta
    assert simulate(alone, 80) < (0.55 if not common else 0.78)


@pytest.mark.parametrize("num_shadows", [16, 64, 128])
def test_the_visible_part_of_a_leak_follows_the_formula(num_shadows: int) -> None:
    """Gaussian log-odds with a known difference, through the real membership matrix and the real fits."""
    generator = np.random.default_rng(3)
    delta, num_examples = 0.10, 20_000
    distance = sqrt(2) * norm.ppf(0.5 + delta)
    membership = draw_membership(num_shadows, num_examples, 0)
    log_odds = generator.normal(size=(num_shadows, num_examples, 1)) + distance * membership[..., None]
    fits = fit_shadows(
        log_odds.astype(np.float32), membership, center="mean", variance="pooled", mode="online", sigma_floor=1e-3
    )
    members = np.arange(num_examples) < num_examples // 2
    target = generator.normal(size=(num_examples, 1)) + distance * members[:, None]
    scores = fits.score(target.astype(np.float32))
    assert auc(scores[members], scores[~members]) - 0.5 == pytest.approx(observable_leak(delta, num_shadows), abs=0.012)
    assert observable_leak(delta, num_shadows) < observable_leak(delta, 2 * num_shadows) < delta


def test_more_seeds_and_examples_lower_the_smallest_delta() -> None:
    now = estimate_power(DIGITS, 0.05)
    more_seeds = estimate_power(dataclasses.replace(DIGITS, num_seeds=10), 0.05)
    more_forget = estimate_power(dataclasses.replace(DIGITS, num_forget=270), 0.05)
    assert more_seeds.smallest_delta < more_forget.smallest_delta < now.smallest_delta
    # the intervals of the published run on digits are 0.031 to 0.051 on each side
    assert 0.03 < now.half_width < 0.045


def outlook_of(design: Design, delta: float, remedies: Remedies) -> Outlook:
    return Outlook(
        folder=Path("runs/r"),
        num_models=4,
        num_models_done=0,
        num_shadows_done=0,
        num_unlearned_shadows=0,
        num_unlearned_shadows_done=0,
        num_units=4,
        num_units_done=0,
        delta=delta,
        design=design,
        power=estimate_power(design, delta),
        spread_from="",
        remedies=remedies,
        sizes={},
    )


@pytest.mark.parametrize(
    ("remedies", "advice", "rows"),
    [
        (Remedies(), "Raise num_seeds or split.forget_fraction,", ["seeds × 2", "shadow models × 2", "forget set × 2"]),
        (
            find_remedies(digits(split={"forget": "random=9"})),
            "Raise num_seeds or --split.forget random=N,",
            ["seeds × 2", "shadow models × 2", "forget set × 2"],
        ),
        (
            Remedies(forget_list=True),
            "Raise num_seeds or use a longer forget list,",
            ["seeds × 2", "shadow models × 2", "forget list × 2"],
        ),
        (
            Remedies(forget_list=True, more_seeds=False),
            ". Use a longer forget list,",
            ["shadow models × 2", "forget list × 2"],
        ),
    ],
)
def test_advice_can_be_followed(remedies: Remedies, advice: str, rows: list[str]) -> None:
    _, line = summary_lines(outlook_of(DIGITS, 0.001, remedies))
    assert line.endswith(f"{advice} or expect inconclusive verdicts")
    assert list(compare_designs(DIGITS, 0.05, remedies)) == rows


def test_no_margin_is_named_that_a_config_refuses() -> None:
    one_picture = Design(num_forget=1, num_non_members=94, num_seeds=1, num_shadows=4)
    _, line = summary_lines(outlook_of(one_picture, 0.05, Remedies(forget_list=True)))
    assert "not even a perfect method as equivalent at any δ below 0.5 (all 4 attacks, in four of five" in line


@pytest.mark.parametrize(
    ("smallest", "text"),
    [(0.1374, "even a perfect method as equivalent only within ±0.138 "), (0.04, " within ±0.041 ")],
)
def test_plan_and_run_state_the_power_in_the_reports_words(smallest: float, text: str) -> None:
    outlook = outlook_of(dataclasses.replace(DIGITS, num_attacks=4), 0.05, Remedies())
    outlook = dataclasses.replace(outlook, power=dataclasses.replace(outlook.power, smallest_delta=smallest))
    report = make_report(1)
    row = report.rows[0]
    attacks = dict.fromkeys(("lira", "rmia", "calibrated_loss", "loss"), row.attacks["lira"])
    report = dataclasses.replace(report, rows=[dataclasses.replace(row, attacks=attacks)], smallest_delta=smallest)
    [sentence] = re.findall(r"This run recognises .*?\.(?= |$)", describe_power(report))
    assert text in sentence
    assert sentence.endswith("(all 4 attacks, in four of five such runs); you asked for ±0.05.")
    assert ("only" in sentence) == (smallest > 0.05)
    assert sentence in list(summary_lines(outlook))[1]
    assert any(sentence in line for line in _power(outlook))


def test_a_finished_audit_counts_its_attacks_and_their_spread() -> None:
    report = make_report(5)
    alone = [dataclasses.replace(row, attacks={"lira": row.attacks["lira"]}) for row in report.rows]
    assert {len(row.attacks) for row in report.rows} == {3}
    margin = measure_smallest_delta(alone, report.sizes)
    assert margin is not None
    assert report.smallest_delta is not None
    assert report.smallest_delta > 1.1 * margin
    assert "(all 3 attacks, in four of five such runs); you asked for ±0.05." in describe_power(report)
    # one attack whose gaps differ between seeds weakens the verdict of all
    unsteady = [
        dataclasses.replace(
            row,
            attacks=row.attacks
            | {
                "loss": dataclasses.replace(one, gap=dataclasses.replace(one.gap, per_seed=[0.3, -0.3, 0.3, -0.3, 0.0]))
            },
        )
        for row in report.rows
        if (one := row.attacks["loss"]).gap is not None
    ]
    wider = measure_smallest_delta(unsteady, report.sizes)
    assert wider is not None
    assert wider > 2 * report.smallest_delta


def test_remedies_follow_from_the_given_inputs() -> None:
    assert find_remedies(custom()) == Remedies()
    assert find_remedies(custom(forget="f")) == Remedies(forget_list=True)
    assert find_remedies(custom(forget="f", members="m")) == Remedies(forget_list=True)
    fixed = Remedies(forget_list=True, more_seeds=False)
    assert (
        find_remedies(custom(forget="f", original="o"))
        == find_remedies(custom(forget="f", members="m", unlearned="u"))
        == fixed
    )


def test_invalid_designs_are_refused() -> None:
    with pytest.raises(ValueError, match="num_seeds"):
        Design(num_forget=1, num_non_members=1, num_seeds=0, num_shadows=4)
    with pytest.raises(ValueError, match="spread"):
        Design(num_forget=1, num_non_members=1, num_seeds=1, num_shadows=4, spread=-1.0)
