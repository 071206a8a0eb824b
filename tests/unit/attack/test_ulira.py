"""U-LiRA against closed forms, against its definition by brute force, and by simulated coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from ungan_dist.attack.evidence import Interval, Row, ULiRA, Verdict
from ungan_dist.attack.lira import Variance
from ungan_dist.attack.metrics import auc
from ungan_dist.attack.ulira import (
    ScoredFleet,
    UnlearnedFleet,
    add_to_rows,
    measure_auc,
    measure_ulira,
    score_left_out,
)
from ungan_dist.config.attack import AttackConfig


def draw_halves(num_models: int, num_examples: int, rng: np.random.Generator) -> np.ndarray:
    """Membership of complementary pairs, each half of the examples at random."""
    halves = rng.random((num_models // 2, num_examples)) < 0.5
    return np.stack([halves, ~halves], axis=1).reshape(num_models, num_examples)


def make_fleet(log_odds: np.ndarray, membership: np.ndarray, target: np.ndarray) -> UnlearnedFleet:
    return UnlearnedFleet(
        log_odds=log_odds[..., None],
        membership=membership,
        shadows=tuple(range(len(log_odds))),
        forget=np.arange(log_odds.shape[1]),
        target=target[:, None],
    )


def score_by_definition(log_odds: np.ndarray, membership: np.ndarray, variance: str, floor: float) -> np.ndarray:
    """Score each model and example by SciPy's densities, fitted anew without the model and its partner."""
    num_models, num_examples, num_queries = log_odds.shape
    scores = np.empty((num_models, num_examples))
    for model in range(num_models):
        others = [one for one in range(num_models) if one not in (model, model ^ 1)]
        fits = {}
        for group in (True, False):
            values = {
                (x, q): [log_odds[one, x, q] for one in others if membership[one, x] == group]
                for x in range(num_examples)
                for q in range(num_queries)
            }
            means = {key: np.mean(some) for key, some in values.items()}
            if variance == "per_example":
                sigmas = {key: np.std(some) for key, some in values.items()}
            elif variance == "pooled":
                squares = sum(np.sum((some - means[key]) ** 2) for key, some in values.items())
                sigmas = dict.fromkeys(values, np.sqrt(squares / sum(len(some) - 1 for some in values.values())))
            else:
                sigmas = dict.fromkeys(values, np.std(np.concatenate([*values.values()])))
            fits[group] = means, {key: max(sigma, floor) for key, sigma in sigmas.items()}
        for x in range(num_examples):
            ratios = []
            for q in range(num_queries):
                value = log_odds[model, x, q]
                (mean_in, sigma_in), (mean_out, sigma_out) = ([part[x, q] for part in fits[g]] for g in (True, False))
                if variance == "carlini_fixed":
                    sigma_out = sigma_in
                ratios.append(norm.logpdf(value, mean_in, sigma_in) - norm.logpdf(value, mean_out, sigma_out))
            scores[model, x] = np.mean(ratios)
    return scores


@pytest.mark.parametrize("variance", ["per_example", "pooled", "carlini_fixed"])
@pytest.mark.parametrize(("num_models", "floor"), [(6, 1e-3), (10, 1e-3), (8, 0.9)])
def test_every_model_is_scored_by_the_others_without_its_partner(
    variance: Variance, num_models: int, floor: float
) -> None:
    rng = np.random.default_rng(num_models)
    membership = draw_halves(num_models, 7, rng)
    log_odds = 30 + rng.normal(size=(num_models, 7, 2)) + membership[..., None]
    expected = score_by_definition(log_odds, membership, variance, floor)
    found = score_left_out(log_odds, membership, variance=variance, sigma_floor=floor)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("shift", "sigma_in", "truth"),
    [
        (0.0, 1.0, 0.5),
        (1.0, 1.0, norm.cdf(1 / np.sqrt(2))),
        (2.0, 1.0, norm.cdf(2 / np.sqrt(2))),
        (0.0, 0.5, 2 / np.pi * np.arctan(2)),  # P(|in| < |out|): nothing moved, yet forgotten examples are narrower
    ],
)
def test_auc_of_gaussian_log_odds_is_that_of_the_likelihood_ratio(shift: float, sigma_in: float, truth: float) -> None:
    rng = np.random.default_rng(5)
    num_models, num_examples = 160, 400
    membership = draw_halves(num_models, num_examples, rng)
    noise = rng.normal(size=(num_models, num_examples)) * np.where(membership, sigma_in, 1.0)
    difficulty = rng.normal(scale=3, size=num_examples)  # hard examples are hard for every model
    log_odds = difficulty + noise + shift * membership
    attack = AttackConfig(variance="pooled", num_resamples=100)
    found = measure_ulira([make_fleet(log_odds, membership, difficulty + shift)], attack)
    assert isinstance(found, ULiRA)
    assert found.auc.mean == pytest.approx(truth, abs=0.012)
    assert found.auc.low <= truth + 0.008
    assert found.num_shadows == num_models
    if sigma_in == 1.0:
        # the target lies at the centre of IN: its log-likelihood ratio is shift² / 2
        assert found.target_scores["0.5"][0] == pytest.approx(shift**2 / 2, abs=0.1)


def test_partners_are_left_out_so_that_no_signal_is_half() -> None:
    rng = np.random.default_rng(1)
    with_partner, without = [], []
    for _ in range(60):
        membership = draw_halves(8, 80, rng)
        log_odds = rng.normal(size=(8, 80))
        scores = score_left_out(log_odds[..., None], membership)
        without += [auc(one[had], one[~had]) for one, had in zip(scores, membership, strict=True)]
        for model in range(8):  # the same with the partner kept, whose membership gives the model's away
            others = [one for one in range(8) if one != model]
            had = membership[others]
            means = [np.nanmean(np.where(mask, log_odds[others], np.nan), axis=0) for mask in (had, ~had)]
            score = (means[0] - means[1]) * (log_odds[model] - (means[0] + means[1]) / 2)
            with_partner.append(auc(score[membership[model]], score[~membership[model]]))
    assert np.mean(without) == pytest.approx(0.5, abs=0.01)
    assert np.mean(with_partner) < 0.485


@pytest.mark.parametrize(
    ("num_models", "num_examples"),
    [(6, 20), (16, 40), (16, 3)],
)
@pytest.mark.parametrize(("of_models", "of_examples"), [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0)])
def test_interval_of_the_auc_covers_other_models_and_other_examples(
    num_models: int, num_examples: int, of_models: float, of_examples: float
) -> None:
    rng = np.random.default_rng([num_models, num_examples])
    shift, num_audits, covered = 0.5, 100, 0
    truth = norm.cdf(shift / np.sqrt(2 + of_models**2 + of_examples**2))
    for _ in range(num_audits):
        membership = draw_halves(num_models, num_examples, rng)
        leak = shift + of_models * rng.normal(size=(num_models, 1)) + of_examples * rng.normal(size=num_examples)
        scores = rng.normal(size=membership.shape) + membership * leak
        found = measure_auc(
            [ScoredFleet(scores, membership, np.arange(num_models) // 2, np.arange(num_examples))], level=0.95
        )
        assert found is not None
        covered += found.low <= truth <= found.high
    assert covered / num_audits >= 0.88  # 93 % and more in long simulations; 2.2 % is the standard error here


def test_interval_without_the_variance_of_the_examples_would_not_cover() -> None:
    """All shadow models share the examples: a spread between models alone says nothing about other examples."""
    rng = np.random.default_rng(2)
    covered = {"crossed": 0, "models": 0}
    truth = norm.cdf(0.5 / np.sqrt(3))
    for _ in range(80):
        membership = draw_halves(24, 40, rng)
        scores = rng.normal(size=(24, 40)) + membership * (0.5 + rng.normal(size=40))
        found = measure_auc([ScoredFleet(scores, membership, np.arange(24) // 2, np.arange(40))])
        assert found is not None
        each = [auc(one[had], one[~had]) for one, had in zip(scores, membership, strict=True)]
        error = 2.07 * np.std(each, ddof=1) / np.sqrt(24)
        covered["crossed"] += found.low <= truth <= found.high
        covered["models"] += abs(np.mean(each) - truth) <= error
    assert covered["crossed"] / 80 >= 0.87
    assert covered["models"] / 80 < 0.75


def test_perfect_separation_has_an_interval_with_width() -> None:
    membership = draw_halves(8, 30, np.random.default_rng(0))
    found = measure_auc([ScoredFleet(membership.astype(float), membership, np.arange(8) // 2, np.arange(30))])
    assert found is not None
    assert (found.mean, found.high) == (1.0, 1.0)
    assert 0.9 < found.low < 1.0


def test_tpr_has_one_threshold_for_all_models_and_an_interval() -> None:
    rng = np.random.default_rng(3)
    membership = draw_halves(20, 40, rng)
    log_odds = rng.normal(size=(20, 40)) + 2 * membership
    attack = AttackConfig(variance="pooled", fprs=(0.1, 0.001), num_resamples=200)
    found = measure_ulira([make_fleet(log_odds, membership, np.zeros(40))], attack)
    assert isinstance(found, ULiRA)
    scores = score_left_out(log_odds[..., None], membership, variance="pooled")
    negatives = np.sort(scores[~membership])
    threshold = negatives[-int(np.ceil(0.1 * len(negatives)))]
    cell = found.tpr_at_fpr["0.1"]
    assert isinstance(cell, Interval)
    assert cell.mean == pytest.approx((scores[membership] > threshold).mean())
    assert cell.low < cell.mean < cell.high
    assert found.tpr_at_fpr["0.001"] == "n/a (needs ≥ 2,000 shadow models × forget examples)"


def test_seeds_share_their_examples_and_their_shadow_models() -> None:
    """Two seeds that say the same are no more evidence than one."""
    rng = np.random.default_rng(4)
    membership = draw_halves(16, 50, rng)
    scores = rng.normal(size=(16, 50)) + membership
    one = ScoredFleet(scores, membership, np.arange(16) // 2, np.arange(50))
    single, twice = measure_auc([one]), measure_auc([one, one])
    assert single is not None
    assert twice is not None
    assert twice.per_seed == single.per_seed * 2
    assert (twice.low, twice.high) == pytest.approx((single.low, single.high), abs=0.005)
    other = measure_auc(
        [one, one._replace(examples=np.arange(50) + 1000, scores=rng.normal(size=(16, 50)) + membership)]
    )
    assert other is not None
    assert other.high - other.low < 0.85 * (single.high - single.low)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"membership": np.ones((6, 3), dtype=bool)}, "complementary"),
        ({"membership": np.zeros((6, 3))}, "bool"),
        ({"log_odds": np.zeros((6, 3))}, "models, examples, queries"),
        ({"log_odds": np.zeros((4, 3, 1)), "membership": np.array([[True] * 3, [False] * 3] * 2)}, "at least 6"),
        ({"log_odds": np.full((6, 3, 1), np.nan)}, "diverged"),
    ],
)
def test_wrong_input_is_named(changed: dict[str, np.ndarray], words: str) -> None:
    fleet = {"log_odds": np.zeros((6, 3, 1)), "membership": np.array([[True] * 3, [False] * 3] * 3)}
    with pytest.raises(ValueError, match=words):
        score_left_out(**(fleet | changed))


def test_too_few_models_or_examples_leave_a_reason() -> None:
    membership = np.array([[True], [False]] * 3)
    fleet = make_fleet(np.arange(6.0)[:, None], membership, np.zeros(1))
    assert measure_ulira([fleet], AttackConfig()) == "n/a (needs ≥ 2 forget examples)"
    few = replace(fleet, log_odds=fleet.log_odds[:4], membership=membership[:4])
    assert measure_ulira([few], AttackConfig()) == "n/a (needs ≥ 6 unlearned shadow models)"


def interval(low: float, mean: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, level=0.95, kind="shadows", per_seed=[mean])


@pytest.mark.parametrize(
    ("outcome", "low", "warned"),
    [
        ("equivalent", 0.56, True),
        ("equivalent, utility lost", 0.56, True),
        ("equivalent", 0.55, False),  # not above .5 + δ
        ("under-forgotten", 0.7, False),  # LiRA saw it
        ("inconclusive", 0.7, False),
    ],
)
def test_a_leak_that_lira_calls_equivalent_is_a_warning(outcome: str, low: float, warned: bool) -> None:
    row = Row(
        method="scrub",
        title="SCRUB",
        accuracy={},
        tnr_at_fnr={},
        achieved_fnr={},
        auc=interval(0.45, 0.5, 0.55),
        tpr_at_fpr={},
        tpr_at_fpr_flipped={},
        verdict=Verdict(outcome=outcome, gap=interval(-0.01, 0.0, 0.01), smallest_delta=0.01),
    )
    ulira = ULiRA(auc=interval(low, low + 0.02, low + 0.04), tpr_at_fpr={}, num_shadows=8, target_scores={})
    [found] = add_to_rows([row], {"scrub": ulira}, 0.05)
    assert bool(found.hidden_leak) is warned
    assert found.verdict == row.verdict
    if warned:
        assert "SCRUB hides a leak that U-LiRA finds" in found.hidden_leak
        assert f"{low + 0.02:.3f}" in found.hidden_leak
