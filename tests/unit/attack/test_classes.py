"""Audits of whole classes: gaps from .5, accuracies by class, loss against Retrain, and U-LiRA's forget sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_report import evidence_of

from ungan_dist.attack.evidence import Evidence, Row
from ungan_dist.attack.mann_whitney import gap_interval, measure_influence
from ungan_dist.attack.retrained import RetrainedModels
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.utility import FORGOTTEN, describe_class_accuracy
from ungan_dist.attack.verdicts import CLASS_DIFFERS, judge_rows
from ungan_dist.config.attack import AttackConfig
from ungan_dist.runs.unlearned_shadows import forget_group

ATTACK = AttackConfig(delta=0.1, num_resamples=100)
TESTS = {"test": 300, "test_forgotten": 30, "test_others": 270}
KNOWN = {"original": 0.95, "retrain": 0.0, "ungan": 0.0}


def of_classes(method: str, seed: int, known: float | None = None) -> Evidence:
    item = evidence_of(method, seed)
    share = KNOWN[method] if known is None else known
    by_class = {FORGOTTEN: share, "test_forgotten": share, "test_others": 0.95, "test": 0.9}
    return replace(item, accuracy={**item.accuracy, "forget": share, **by_class})


def judge(known: float, num_seeds: int = 5) -> dict[str, Row]:
    evidence = [of_classes(method, seed) for method in ("original", "retrain") for seed in range(num_seeds)]
    evidence += [of_classes("ungan", seed, known + 0.001 * seed) for seed in range(num_seeds)]
    rows = score_rows(evidence, ATTACK, num_test=TESTS, from_half=True)
    sizes = {"retain": 320, **TESTS}
    return {row.method: row for row in judge_rows(rows, ATTACK, num_classes=10, sizes=sizes, evidence=evidence)}


@pytest.mark.parametrize("num_seeds", [1, 5])
def test_all_gaps_are_measured_from_one_half_where_members_were_drawn(num_seeds: int) -> None:
    rows = judge(0.0, num_seeds)
    for method in ("original", "ungan"):
        for found in rows[method].attacks.values():
            assert found.gap is not None
            assert found.gap.mean == pytest.approx(found.auc.mean - 0.5)
    assert rows["retrain"].verdict.outcome == "reference"
    assert rows["original"].verdict.outcome == "under-forgotten"


@pytest.mark.parametrize(("known", "outcome"), [(0.0, "equivalent"), (0.015, "equivalent"), (0.5, CLASS_DIFFERS)])
def test_a_model_that_still_knows_the_class_is_never_plainly_equivalent(known: float, outcome: str) -> None:
    row = judge(known)["ungan"]
    assert row.verdict.outcome == outcome
    assert row.utility == ""  # the accuracy on the forgotten classes is no utility
    assert row.loss.keys() == {"retain", "test_others", FORGOTTEN}
    assert bool(row.class_caveat) == (outcome == CLASS_DIFFERS)


def test_a_model_that_suppresses_a_class_more_than_retrain_differs_too() -> None:
    """As with a subclass, whose coarse class Retrain knows from others."""
    rows = judge(0.0)
    retrain = replace(rows["ungan"], title="Retrain", accuracy=judge(0.6)["ungan"].accuracy)
    loss = {FORGOTTEN: replace(rows["ungan"].loss[FORGOTTEN], mean=0.6, low=0.55, high=0.65)}
    caveat = describe_class_accuracy(replace(rows["ungan"], loss=loss), retrain, 0.02)
    assert caveat.startswith("UnGAN suppresses the forgotten classes: it classifies 0.2 %")


def test_the_loss_against_retrain_leaves_a_seeds_own_retrain_out() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    models = RetrainedModels(log_odds=dict(enumerate(values)))
    target = np.arange(7.0)
    assert np.allclose(models.score(1, target), target - (values[0] + values[2]) / 2)
    alone = RetrainedModels(log_odds={0: values[0]})
    assert (alone.score(0, values[0]) == 0).all()
    assert np.allclose(alone.score(0, target), target - values[0])


def test_a_shadow_model_forgets_all_of_its_examples_of_the_class() -> None:
    rng = np.random.default_rng(1)
    members = rng.random(60) < 0.5
    group = np.flatnonzero(rng.random(60) < 0.3)
    draw = forget_group(group, members)
    had = [position for position in range(60) if members[position]]
    assert draw.forget.tolist() == [position for position in had if position in set(group.tolist())]
    assert draw.retain.tolist() == [position for position in had if position not in set(group.tolist())]


def test_intervals_of_redrawn_halves_are_as_wide_as_their_spread() -> None:
    rng = np.random.default_rng(0)
    num_half, num_seeds, found = 70, 10, []
    for _ in range(150):
        scores_of_examples = rng.normal(size=2 * num_half)
        seeds = []
        for _ in range(num_seeds):
            drawn = rng.permutation(2 * num_half)
            scores = scores_of_examples + 0.3 * rng.normal(size=2 * num_half)
            seeds.append(measure_influence(scores, np.sort(drawn[:num_half]), np.sort(drawn[num_half:])).minus(0.5))
        found.append(gap_interval(seeds, 0.9, num_models=1))
    true_half = 1.645 * float(np.std([one.mean for one in found]))
    half = float(np.mean([one.high - one.low for one in found])) / 2
    missed = sum(not one.low <= 0 <= one.high for one in found)
    assert true_half < half < 1.3 * true_half
    assert 4 <= missed <= 26  # 15 are expected
