"""Verdicts of models whose behaviour is known, from simulated shadow models through LiRA to the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from ungan_dist.attack.evidence import Evidence, Row
from ungan_dist.attack.lira import fit_shadows
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.verdicts import LOST, NO_LEAK, NO_ORIGINAL, TOO_WIDE, judge_rows
from ungan_dist.config.attack import AttackConfig
from ungan_dist.data.membership import draw_membership

NUM_CLASSES, NUM_TRAIN, NUM_FORGET, NUM_SHADOWS, NUM_TEST = 10, 400, 150, 16, 400
ATTACK = AttackConfig(delta=0.05, num_resamples=100)
Generator = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class World:
    """Examples of a simulated data set: their difficulty, and log-odds ``leak`` higher for members."""

    leak: float = 3.0
    tied: bool = False
    """All log-odds of all models are equal."""
    at_chance: bool = False
    """The target has learnt nothing."""

    def logits(self, generator: Generator, labels: np.ndarray, is_member: np.ndarray) -> np.ndarray:
        """Logits of a model with these members. Its log-odds are near-Gaussian over models."""
        difficulty = np.random.default_rng(99).normal(size=len(labels))
        margin = 4 + difficulty + self.leak * is_member + generator.normal(size=len(labels))
        found = generator.normal(scale=0.1, size=(len(labels), NUM_CLASSES))
        if self.tied:
            return np.zeros_like(found)
        if not self.at_chance:
            found[np.arange(len(labels)), labels] += margin
        return found


Change = Callable[[Generator, np.ndarray, np.ndarray], np.ndarray]
"""Original logits and Retrain's → an unlearned model's logits."""


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - np.logaddexp.reduce(others, axis=1)


def audit(
    world: World, changes: dict[str, Change], num_seeds: int = 5, kept: list[Evidence] | None = None
) -> dict[str, Row]:
    """Train shadow models, originals and Retrain in the simulated world, unlearn and score."""
    generator = np.random.default_rng(0)
    num_pool = 2 * NUM_TRAIN
    labels = generator.integers(NUM_CLASSES, size=num_pool + NUM_TEST)
    nobody = np.zeros(NUM_TEST, dtype=bool)
    membership = draw_membership(NUM_SHADOWS, num_pool, 0)
    shadows = [
        log_odds(world.logits(generator, labels, np.append(row, nobody)), labels)[:num_pool] for row in membership
    ]
    fits = fit_shadows(np.stack(shadows)[..., None], membership)
    evidence = [] if kept is None else kept
    for seed in range(num_seeds):
        order = generator.permutation(num_pool)
        forget, retain, rest = order[:NUM_FORGET], order[NUM_FORGET:NUM_TRAIN], order[NUM_TRAIN:]
        models: dict[str, np.ndarray] = {}
        for method, members in (("original", order[:NUM_TRAIN]), ("retrain", retain)):
            is_member = np.zeros(len(labels), dtype=bool)
            is_member[members] = True
            models[method] = world.logits(generator, labels, is_member)
        for method, change in changes.items():
            models[method] = change(generator, models["original"], models["retrain"])
        for method, logits in models.items():
            is_right = logits.argmax(1) == labels
            phi = log_odds(logits, labels)[:num_pool, None]
            evidence.append(
                Evidence(
                    method=method,
                    seed=seed,
                    accuracy={"retain": is_right[retain].mean(), "test": is_right[num_pool:].mean()},
                    log_odds=phi,
                    log_odds_unseen=np.zeros((1, 1)),
                    scores=fits.score(phi),
                    retain=retain,
                    forget=forget,
                    non_members=rest,
                    curves={},
                    unlearning_seconds=1.0,
                )
            )
    sizes = {"retain": NUM_TRAIN - NUM_FORGET, "test": NUM_TEST}
    rows = score_rows(evidence, ATTACK, num_test=NUM_TEST)
    return {row.method: row for row in judge_rows(
        rows, ATTACK, num_classes=NUM_CLASSES, sizes=sizes, evidence=evidence
    )}  # fmt: skip


def do_nothing(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    return original


def equal_retrain(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    return retrained + generator.normal(scale=0.01, size=retrained.shape)


def output_a_constant(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    return np.tile(original[0], (len(original), 1))


def flip_labels(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    return -retrained


def add_noise(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    return retrained + generator.normal(scale=2.5, size=retrained.shape)


class CollapseOnce:
    """A method equal to Retrain that has a constant output under one seed."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
        self.num_calls += 1
        noise = generator.normal(scale=0.01, size=retrained.shape)
        return noise if self.num_calls == 3 else retrained + noise


@pytest.mark.parametrize("num_seeds", [1, 5])
def test_models_of_known_behaviour(num_seeds: int) -> None:
    rows = audit(
        World(),
        {
            "fine_tuning": do_nothing,
            "cf_k": equal_retrain,
            "neg_grads": output_a_constant,
            "random_labels": flip_labels,
            "unsir": add_noise,
        },
        num_seeds,
    )
    outcomes = {method: row.verdict.outcome for method, row in rows.items()}
    assert outcomes["original"] == outcomes["fine_tuning"] == "under-forgotten"
    assert (outcomes["retrain"], outcomes["cf_k"]) == ("reference", "equivalent")
    assert rows["cf_k"].utility == rows["fine_tuning"].utility == ""
    utilities = {method: rows[method].utility for method in ("neg_grads", "random_labels", "unsir")}
    assert utilities == {"neg_grads": "constant", "random_labels": "at chance", "unsir": "utility lost"}
    for method in utilities:
        assert outcomes[method] != "equivalent"
        assert rows[method].caveat.endswith(".")
    assert "same output" in rows["neg_grads"].caveat


def test_what_is_equivalent_without_its_utility_stands_apart() -> None:
    """A model equal to Retrain for the attack, whose accuracy is two to three points lower on the test set."""

    def forget_some_test_examples(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
        changed = equal_retrain(generator, original, retrained)
        changed[-NUM_TEST:][generator.random(NUM_TEST) < 0.06] *= -1
        return changed

    rows = audit(World(), {"scrub": forget_some_test_examples})
    assert rows["scrub"].verdict.outcome == LOST
    loss = rows["scrub"].loss["test"]
    assert loss.low > 0.02
    assert rows["scrub"].loss["retain"].high < 0.01
    assert "of test examples correctly" in rows["scrub"].caveat


def test_a_seed_that_collapses_among_good_ones_is_noticed() -> None:
    rows = audit(World(), {"scrub": CollapseOnce()}, num_seeds=6)
    row = rows["scrub"]
    loss = row.loss["retain"]
    assert (loss.high - loss.low) / 2 > loss.mean  # the mean alone would go unnoticed
    assert row.utility == "utility lost"
    assert "collapsed under 1 of 6 seeds" in row.caveat
    assert row.verdict.outcome != "equivalent"


def test_a_seed_that_diverged_among_good_ones_is_no_success() -> None:
    rows = list(audit(World(), {"cf_k": equal_retrain}).values())
    judged = judge_rows(rows, ATTACK, num_classes=NUM_CLASSES, sizes={}, diverged={"cf_k": 1, "retrain": 1})
    found = {row.method: row for row in judged}
    assert (found["cf_k"].verdict.outcome, found["cf_k"].utility) == (LOST, "utility lost")
    assert found["cf_k"].caveat == "CF-k diverged under 1 of 6 seeds. Its verdict does not apply to a working model."
    assert found["retrain"].utility == ""


def test_without_a_common_seed_utility_is_that_of_the_means() -> None:
    """Retrain has finished other seeds than the method, whose accuracy is half of Retrain's."""

    def keep_half(generator: Generator, original: np.ndarray, retrained: np.ndarray) -> np.ndarray:
        changed = equal_retrain(generator, original, retrained)
        changed[-NUM_TEST:][: NUM_TEST // 2] *= -1
        return changed

    evidence: list[Evidence] = []
    audit(World(), {"cf_k": equal_retrain, "scrub": keep_half}, num_seeds=8, kept=evidence)
    apart = [item for item in evidence if item.method == "original" or (item.method == "retrain") == (item.seed < 3)]
    sizes = {"retain": NUM_TRAIN - NUM_FORGET, "test": NUM_TEST}
    rows = judge_rows(score_rows(apart, ATTACK), ATTACK, num_classes=NUM_CLASSES, sizes=sizes, evidence=apart)
    found = {row.method: row for row in rows}
    assert not found["scrub"].loss
    assert (found["cf_k"].verdict.outcome, found["scrub"].verdict.outcome) == ("equivalent", LOST)


@pytest.mark.parametrize("world", [World(leak=0.0), World(tied=True), World(at_chance=True)], ids=str)
def test_nothing_has_a_verdict_if_the_target_does_not_leak(world: World) -> None:
    rows = audit(world, {"fine_tuning": do_nothing, "neg_grads": output_a_constant})
    assert {method: row.verdict.outcome for method, row in rows.items()} == {
        "original": NO_LEAK, "retrain": "reference", "fine_tuning": NO_LEAK, "neg_grads": NO_LEAK
    }  # fmt: skip
    if world.tied:
        gap = rows["original"].verdict.gap
        assert gap is not None
        assert gap.mean == 0


def test_without_the_original_nothing_shows_that_the_attack_works() -> None:
    rows = [row for method, row in audit(World(), {"cf_k": equal_retrain}).items() if method != "original"]
    judged = judge_rows(rows, ATTACK, num_classes=NUM_CLASSES, sizes={})
    assert {row.method: row.verdict.outcome for row in judged} == {"retrain": "reference", "cf_k": NO_ORIGINAL}


def test_an_original_that_is_too_uncertain_gives_no_power() -> None:
    rows = list(audit(World(), {"cf_k": equal_retrain}).values())
    judged = judge_rows(
        [_with_outcome(row, TOO_WIDE) if row.method == "original" else row for row in rows],
        ATTACK, num_classes=NUM_CLASSES, sizes={},
    )  # fmt: skip
    assert [row.verdict.outcome for row in judged if row.method != "retrain"] == [TOO_WIDE, TOO_WIDE]


def _with_outcome(row: Row, outcome: str) -> Row:
    from dataclasses import replace

    return replace(row, verdict=replace(row.verdict, outcome=outcome))
