"""The table's rows against the metrics taken one by one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest

from ungan_dist.attack.evidence import Evidence, Interval
from ungan_dist.attack.intervals import student_t_interval
from ungan_dist.attack.metrics import auc, tnr_at_fnr, tpr_at_fpr
from ungan_dist.attack.score import score_rows
from ungan_dist.config.attack import AttackConfig

ATTACK = AttackConfig(num_resamples=200)


def shown(method: str, seed: int, *, num_train=400, num_forget=40, forget_shift=0.0, noise=1.0, **changes) -> Evidence:
    """Scores of a pool twice ``num_train``: retain examples one higher, forget examples ``forget_shift``."""
    rng = np.random.default_rng(seed)
    pool = rng.permutation(2 * num_train)
    forget, retain, non_members = pool[:num_forget], pool[num_forget:num_train], pool[num_train:]
    # noise shared by the methods of a seed, and the method's own noise
    scores = rng.standard_normal(2 * num_train)
    scores += noise * np.random.default_rng([seed, *method.encode()]).standard_normal(2 * num_train)
    scores[retain] += 1
    scores[forget] += forget_shift
    evidence = Evidence(
        method=method,
        seed=seed,
        accuracy={"retain": 0.99, "forget": 0.9, "test": 0.8, "unseen": 0.75 + seed / 100},
        log_odds=scores[:, None],
        log_odds_unseen=np.zeros((50, 1)),
        scores=scores,
        retain=retain,
        forget=forget,
        non_members=non_members,
        curves={},
        unlearning_seconds=1.0,
    )
    return dataclasses.replace(evidence, **changes)


def sets(item: Evidence):
    return item.scores[item.retain], item.scores[item.forget], item.scores[item.non_members]


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_cells_are_the_metrics_of_each_seed(num_seeds):
    evidence = [
        shown(method, seed, num_train=1200, forget_shift=0.5)
        for method in ("original", "retrain")
        for seed in range(num_seeds)
    ]
    row = score_rows(evidence, ATTACK, num_test=300)[0]
    own = [sets(item) for item in evidence[:num_seeds]]
    assert row.title == "Original"
    assert row.auc.per_seed == [auc(f, u) for _, f, u in own]
    for key, rate in (("0.01", 0.01), ("0.001", 0.001)):
        found = row.tnr_at_fnr[key], row.tpr_at_fpr[key], row.tpr_at_fpr_flipped[key]
        assert all(isinstance(cell, Interval) for cell in found)
        assert found[0].per_seed == [tnr_at_fnr(r, f, rate) for r, f, _ in own]
        assert found[1].per_seed == [tpr_at_fpr(f, u, rate) for _, f, u in own]
        assert found[2].per_seed == [tpr_at_fpr(-f, -u, rate) for _, f, u in own]
        assert len(row.achieved_fnr[key]) == num_seeds
        assert all(0 <= achieved < rate for achieved in row.achieved_fnr[key])
    assert row.accuracy["unseen"].per_seed == [0.75 + seed / 100 for seed in range(num_seeds)]
    kind = "student_t" if num_seeds == 3 else "bootstrap"
    cells = [*row.accuracy.values(), *row.tnr_at_fnr.values(), *row.tpr_at_fpr.values()]
    assert {(cell.kind, cell.level) for cell in cells} == {(kind, 0.95)}
    assert row.verdict.gap is not None
    kind = "student_t" if num_seeds == 3 else "examples"
    assert (row.auc.kind, row.auc.level) == (kind, 0.95)
    assert (row.verdict.gap.kind, row.verdict.gap.level) == (kind, 0.90)


def test_gaps_are_to_retrain_under_the_same_seed():
    evidence = [shown(method, seed) for method in ("ungan", "retrain") for seed in (2, 0, 1)]
    ungan, retrain = score_rows(evidence, ATTACK)
    gaps = [own - other for own, other in zip(ungan.auc.per_seed, retrain.auc.per_seed, strict=True)]
    expected, found = student_t_interval(gaps, 0.90), ungan.verdict.gap
    assert found is not None
    assert (found.mean, found.per_seed) == (expected.mean, expected.per_seed)
    # the seeds draw from one pool, so some examples are in two seeds, whose covariance is added
    assert found.low <= expected.low < found.low + 0.02
    assert (retrain.verdict.outcome, retrain.verdict.gap) == ("reference", None)


def test_without_retrain_the_gap_is_to_one_half():
    row, *_ = score_rows([shown("original", 0, forget_shift=3.0)], ATTACK, num_test=300)
    assert row.verdict.gap is not None
    assert row.verdict.gap.mean == pytest.approx(row.auc.mean - 0.5)
    assert row.verdict.outcome == "under-forgotten"


def test_a_method_equal_to_retrain_is_equivalent_even_under_one_seed():
    """Paired by example, the gap of two near-equal models is far better known than either AUC."""
    retrain = shown("retrain", 0)
    jitter = 1e-3 * np.random.default_rng(0).standard_normal(len(retrain.scores))
    twin = dataclasses.replace(retrain, method="ungan", scores=retrain.scores + jitter)
    row = score_rows([twin, retrain], ATTACK, num_test=300)[0]
    assert row.verdict.outcome == "equivalent"
    assert row.auc.high - row.auc.low > 0.1
    assert row.verdict.smallest_delta is not None
    assert row.verdict.smallest_delta < 0.005


def test_over_forgetting_is_seen_in_the_flipped_column():
    evidence = [shown("ungan", 0, forget_shift=-4.0), shown("retrain", 0)]
    row = score_rows(evidence, ATTACK, num_test=300)[0]
    assert row.verdict.outcome == "over-forgotten"
    straight, flipped = row.tpr_at_fpr["0.01"], row.tpr_at_fpr_flipped["0.01"]
    assert isinstance(straight, Interval)
    assert isinstance(flipped, Interval)
    assert flipped.mean > 0.3 > straight.mean


def test_negating_the_scores_swaps_the_two_tprs_and_their_intervals():
    item = shown("original", 0, forget_shift=1.0)
    turned = dataclasses.replace(item, scores=-item.scores)
    row, other = (score_rows([one], ATTACK, num_test=300)[0] for one in (item, turned))
    for straight, flipped in ((row, other), (other, row)):
        found, expected = straight.tpr_at_fpr["0.01"], flipped.tpr_at_fpr_flipped["0.01"]
        assert isinstance(found, Interval)
        assert isinstance(expected, Interval)
        assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_a_share_of_zero_has_an_exact_interval():
    row = score_rows([shown("original", 0, forget_shift=9.0)], ATTACK, num_test=300)[0]
    exact = binomtest(0, 40).proportion_ci(0.95, "exact")
    for cell in (row.tnr_at_fnr["0.01"], row.tpr_at_fpr_flipped["0.01"]):
        assert isinstance(cell, Interval)
        assert (cell.mean, cell.low, cell.high) == pytest.approx((0.0, 0.0, exact.high))


def test_lifting_the_retain_scores_changes_column_a_but_no_verdict():
    plain, retrain = shown("ungan", 0), shown("retrain", 0)
    lifted = plain.scores.copy()
    lifted[plain.retain] += 1.0
    before, _ = score_rows([plain, retrain], ATTACK, num_test=300)
    after, _ = score_rows([dataclasses.replace(plain, scores=lifted), retrain], ATTACK, num_test=300)
    assert isinstance(before.tnr_at_fnr["0.01"], Interval)
    assert isinstance(after.tnr_at_fnr["0.01"], Interval)
    assert after.tnr_at_fnr["0.01"].mean > before.tnr_at_fnr["0.01"].mean
    assert (after.auc, after.verdict) == (before.auc, before.verdict)


def test_undefined_cells_have_a_reason():
    row = score_rows([shown("original", 0)], ATTACK, num_test=300)[0]
    assert row.tnr_at_fnr["0.001"] == "n/a (needs ≥ 1,000 retain examples)"
    assert row.achieved_fnr["0.001"] == []
    assert row.tpr_at_fpr["0.001"] == "n/a (needs ≥ 1,000 never-seen examples)"
    assert row.tpr_at_fpr_flipped["0.001"] == "n/a (needs ≥ 1,000 never-seen examples)"
    with pytest.raises(ValueError, match="at least 1,000 members, got 360"):
        score_rows([shown("original", 0)], dataclasses.replace(ATTACK, fnr=0.001), num_test=300)


def test_a_partial_run_is_scored_on_its_results():
    evidence = [shown("original", seed) for seed in range(4)]
    evidence += [shown("retrain", seed) for seed in (0, 1, 2)]
    evidence += [shown("ungan", seed) for seed in (1, 3)]
    evidence += [shown("fine_tuning", 3)]
    original, retrain, ungan, fine_tuning = score_rows(evidence, ATTACK, num_test=300)
    aucs = {(item.method, item.seed): auc(*sets(item)[1:]) for item in evidence}
    assert len(original.auc.per_seed) == 4
    assert original.verdict.gap is not None
    assert original.verdict.gap.per_seed == [aucs["original", s] - aucs["retrain", s] for s in (0, 1, 2)]
    assert (retrain.auc.kind, ungan.auc.kind) == ("student_t", "examples")
    assert ungan.auc.per_seed == [aucs["ungan", s] for s in (1, 3)]
    assert ungan.verdict.gap is not None
    assert ungan.verdict.gap.per_seed == [aucs["ungan", 1] - aucs["retrain", 1]]
    assert fine_tuning.verdict.gap is not None
    assert fine_tuning.verdict.gap.per_seed == [aucs["fine_tuning", 3] - 0.5]


def test_rows_keep_their_order_and_are_repeatable():
    evidence = [shown(method, 0) for method in ("ungan_no_adversary", "original", "retrain")]
    rows = score_rows(evidence, ATTACK, num_test=300)
    assert [row.title for row in rows] == ["UnGAN, no adversary", "Original", "Retrain"]
    assert score_rows(evidence, ATTACK, num_test=300) == rows
    # A method's row does not depend on which others were scored.
    assert score_rows(evidence[1:], ATTACK, num_test=300) == rows[1:]


def test_the_accuracy_of_few_seeds_has_the_error_of_a_binomial():
    row = score_rows([shown("original", 0)], dataclasses.replace(ATTACK, num_resamples=4000), num_test=10_000)[0]
    test = row.accuracy["test"]
    assert (test.high - test.low) / 2 == pytest.approx(1.96 * np.sqrt(0.8 * 0.2 / 10_000), rel=0.06)
    unseen = row.accuracy["unseen"]
    assert (unseen.high - unseen.low) / 2 == pytest.approx(1.96 * np.sqrt(0.75 * 0.25 / 50), rel=0.12)


def test_every_number_is_a_plain_float():
    def numbers(value):
        if dataclasses.is_dataclass(value):
            value = vars(value)
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            return [number for part in value for number in numbers(part)]
        return [] if value is None or isinstance(value, str) else [value]

    for num_seeds in (1, 3):
        rows = score_rows([shown(m, s) for m in ("original", "retrain") for s in range(num_seeds)], ATTACK, num_test=9)
        assert {type(number) for number in numbers(rows)} == {float}


def test_inconsistent_evidence_is_refused():
    first = shown("original", 0)
    with pytest.raises(ValueError, match="no evidence"):
        score_rows([], ATTACK)
    with pytest.raises(ValueError, match="appears twice"):
        score_rows([first, first], ATTACK)
    with pytest.raises(ValueError, match="ungan under seed 0 and original differ in forget"):
        score_rows([first, shown("ungan", 0, forget=first.forget[::-1])], ATTACK)
    broken = first.scores.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="scores of ungan under seed 0 are not finite"):
        score_rows([first, shown("ungan", 0, scores=broken)], ATTACK)
    with pytest.raises(ValueError, match="pass num_test"):
        score_rows([first], ATTACK)
