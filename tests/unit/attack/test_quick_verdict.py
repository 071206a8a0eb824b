"""Verdicts of audits without shadow models: what their attacks cannot show is never concluded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from synthetic_report import evidence_of, make_report

from ungan_dist.attack.evidence import Row
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.verdicts import LOST, NO_LEAK, QUICK, TOO_WIDE, has_power, judge_rows, trace_level
from ungan_dist.config.attack import AttackConfig

ATTACK = AttackConfig(delta=0.05, num_resamples=100, quick=True)
SIZES = {"retain": 320, "forget": 80, "test": 297}


def audit(methods: tuple[str, ...], num_seeds: int = 5, *, quick: bool = True) -> dict[str, Row]:
    """Judge synthetic rows, whose scores are those of the loss in a quick audit."""
    items = [evidence_of(method, seed) for method in methods for seed in range(num_seeds)]
    if quick:
        items = [
            dataclasses.replace(item, attack="loss", further_scores={"modified_entropy": item.scores.round(2)})
            for item in items
        ]
    attack = dataclasses.replace(ATTACK, quick=quick)
    rows = judge_rows(score_rows(items, attack, num_test=297), attack, num_classes=10, sizes=SIZES, evidence=items)
    return {row.method: row for row in rows}


def test_only_traces_against_retrain_are_concluded() -> None:
    methods = ("original", "retrain", "fine_tuning", "ungan", "ungan_no_adversary")
    full, quick = audit(methods, quick=False), audit(methods)
    assert full["ungan"].verdict.outcome == "equivalent"
    assert {name: row.verdict.outcome for name, row in quick.items()} == {
        "original": "under-forgotten",
        "retrain": "reference",
        "fine_tuning": "under-forgotten",
        "ungan": QUICK,
        "ungan_no_adversary": "over-forgotten",
    }
    assert all(row.verdict.smallest_delta is None for row in quick.values())
    assert all(row.first_attack == "loss" for row in quick.values())
    assert quick["ungan"].attacks["loss"].gap == quick["ungan"].verdict.gap
    assert not has_power(QUICK)


def test_without_retrain_nothing_is_concluded() -> None:
    rows = audit(("original", "fine_tuning", "ungan"))
    assert {row.verdict.outcome for row in rows.values()} == {QUICK}


def test_an_original_without_a_leak_changes_no_verdict() -> None:
    items = [evidence_of(method, seed) for method in ("retrain", "retrain", "fine_tuning") for seed in range(5)]
    items = [dataclasses.replace(item, attack="loss", further_scores={}) for item in items]
    items[:5] = [dataclasses.replace(item, method="original") for item in items[:5]]
    for quick, outcomes in ((False, [NO_LEAK, "reference", NO_LEAK]), (True, [QUICK, "reference", "under-forgotten"])):
        attack = dataclasses.replace(ATTACK, quick=quick)
        rows = judge_rows(score_rows(items, attack, num_test=297), attack, num_classes=10, sizes=SIZES, evidence=items)
        assert [row.verdict.outcome for row in rows] == outcomes


def test_lost_utility_does_not_turn_into_a_verdict() -> None:
    items = [evidence_of(method, seed) for method in ("original", "retrain", "ungan") for seed in range(5)]
    items = [
        dataclasses.replace(
            item,
            attack="loss",
            further_scores={},
            accuracy=item.accuracy | ({"test": 0.5, "retain": 0.5} if item.method == "ungan" else {}),
        )
        for item in items
    ]
    for quick, outcome in ((False, LOST), (True, QUICK)):
        attack = dataclasses.replace(ATTACK, quick=quick)
        rows = judge_rows(score_rows(items, attack, num_test=297), attack, num_classes=10, sizes=SIZES, evidence=items)
        assert (rows[-1].verdict.outcome, rows[-1].utility) == (outcome, "utility lost")


def test_all_attacks_of_a_quick_audit_share_the_error() -> None:
    errors = [1 - trace_level(name, 3, with_lira=False) for name in ("loss", "entropy", "modified_entropy")]
    assert errors == pytest.approx([0.1 / 3] * 3)
    row = audit(("original", "retrain", "ungan"))["ungan"]
    levels = [one.corrected_gap.level for one in row.attacks.values() if one.corrected_gap is not None]
    assert levels == pytest.approx([0.95, 0.95])


def test_quick_and_full_reports_name_their_attacks() -> None:
    report = make_report(2)
    assert TOO_WIDE not in {row.verdict.outcome for row in report.rows}
    assert np.all([row.first_attack == "lira" for row in report.rows])
