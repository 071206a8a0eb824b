"""The rows of the recipe ``digits`` with its five seeds and half of its shadow models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ungan_dist.attack.evidence import Evidence, Report, Row
from ungan_dist.config.recipes import digits
from ungan_dist.runs.pipeline import audit

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    config = replace(
        digits(),
        shadows=replace(digits().shadows, num_models=32),
        methods=("original", "retrain", "random_labels", "neg_grads"),
        output=str(tmp_path_factory.mktemp("digits")),
    )
    return audit(config)


def row(report: Report, method: str) -> Row:
    return next(row for row in report.rows if row.method == method)


def evidence(report: Report, method: str) -> list[Evidence]:
    return [item for item in report.evidence if item.method == method]


@pytest.mark.timeout(600)
def test_the_original_fits_and_generalises(report: Report) -> None:
    assert report.status == "COMPLETE"
    assert report.sizes["shadows"] == 32
    assert row(report, "original").accuracy["retain"].mean >= 0.99
    assert row(report, "original").accuracy["test"].mean >= 0.95


def test_the_attack_sees_the_originals_training_set(report: Report) -> None:
    (auc,) = report.shadow_quality.values()
    assert auc >= 0.60


def test_retrain_treats_the_forget_set_as_unseen(report: Report) -> None:
    retrain = row(report, "retrain")
    assert abs(retrain.accuracy["forget"].mean - retrain.accuracy["test"].mean) < 0.02
    assert retrain.auc.low < 0.5 < retrain.auc.high
    assert retrain.verdict.outcome == "reference"


@pytest.mark.parametrize("method", ["random_labels", "neg_grads"])
def test_methods_that_work_against_the_forget_set_lower_its_accuracy(report: Report, method: str) -> None:
    assert row(report, method).accuracy["forget"].mean < row(report, "original").accuracy["forget"].mean
    drops = [
        before.accuracy["forget"] - after.accuracy["forget"]
        for before, after in zip(evidence(report, "original"), evidence(report, method), strict=True)
    ]
    assert np.sum(np.array(drops) > 0) >= 3


def test_rows_carry_their_intervals(report: Report) -> None:
    for one in report.rows:
        assert one.auc.kind == "student_t"
        assert len(one.auc.per_seed) == 5
        assert one.auc.low <= one.auc.mean <= one.auc.high
