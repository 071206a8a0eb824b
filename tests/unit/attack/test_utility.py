"""Models that lost their utility, judged against Retrain and chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_report import make_report

from ungan_dist.attack.evidence import Interval, Row
from ungan_dist.attack.intervals import share_difference_interval
from ungan_dist.attack.utility import judge_utility, merge_caveats
from ungan_dist.attack.verdicts import judge_rows
from ungan_dist.config.attack import AttackConfig

SIZES = {"retain": 1000, "test": 1000}
RETRAIN = {"retain": 0.95, "test": 0.90}


def row_of(accuracy: dict[str, float], reference: dict[str, float] | None = None, half_width: float = 0.005) -> Row:
    """A row with these accuracies over three equal seeds, and losses of a given half width."""

    def interval(mean: float, half: float) -> Interval:
        return Interval(mean=mean, low=mean - half, high=mean + half, level=0.9, kind="student_t", per_seed=[mean] * 3)

    row = make_report(3, methods=("original",)).rows[0]
    return replace(
        row,
        accuracy={name: interval(value, 0.01) for name, value in accuracy.items()},
        loss={name: interval(value - accuracy[name], half_width) for name, value in (reference or {}).items()},
    )


def judge(accuracy: dict[str, float], reference: dict[str, float], num_classes: int = 10, half_width: float = 0.005,
          sizes: dict[str, int] = SIZES) -> str:  # fmt: skip
    return judge_utility(
        row_of(accuracy, reference, half_width),
        row_of(reference),
        margin=0.02,
        num_classes=num_classes,
        sizes=sizes,
    ).utility


@pytest.mark.parametrize(
    ("retain", "test", "half_width", "found"),
    [
        (0.95, 0.90, 0.005, ""),
        (0.931, 0.881, 0.005, ""),  # less than two points
        (0.929, 0.90, 0.005, "utility lost"),
        (0.95, 0.879, 0.005, "utility lost"),
        (0.95, 0.879, 0.03, ""),  # the interval's half width is larger
        (0.95, 0.869, 0.03, "utility lost"),
        (0.10, 0.90, 0.005, "at chance"),  # a constant model
        (0.0, 0.0, 0.005, "at chance"),  # flipped labels
        (0.99, 0.93, 0.005, ""),  # better than Retrain
    ],
)
def test_the_margin_is_two_points_or_the_half_width(retain: float, test: float, half_width: float, found: str) -> None:
    assert judge({"retain": retain, "test": test}, RETRAIN, half_width=half_width) == found


@pytest.mark.parametrize(
    ("accuracy", "found"), [(0.080, ""), (0.0451, ""), (0.044, "utility lost"), (0.011, "at chance")]
)
def test_with_many_classes_half_of_what_retrain_has_above_chance_counts(accuracy: float, found: str) -> None:
    # of .08 and chance .01, half is .035 above chance
    judged = judge({"test": accuracy}, {"test": 0.08}, num_classes=100, half_width=0.05, sizes={"test": 10_000})
    assert judged == found


def test_without_retrain_the_original_takes_its_place_and_neither_is_judged_by_the_other() -> None:
    report = make_report(3, methods=("original", "ungan"))
    original, ungan = report.rows
    assert not original.utility
    assert not ungan.utility
    assert ungan.loss["test"].mean == 0
    worse = {name: replace(value, mean=value.mean + 0.2) for name, value in ungan.loss.items()}
    rows = [original, replace(ungan, loss=worse)]
    first, second = judge_rows(rows, AttackConfig(), num_classes=10, sizes=report.sizes)
    assert (first.utility, second.utility) == ("", "utility lost")
    assert "correctly, Original " in second.caveat


def named(method: str, accuracy: dict[str, float], reference: dict[str, float] | None = None) -> Row:
    """A row of a method, with its losses against Retrain."""
    row = next(row for row in make_report(3, methods=(method,)).rows if row.method == method)
    made = row_of(accuracy, reference)
    return replace(row, accuracy=made.accuracy, loss=made.loss)


@pytest.mark.parametrize(
    ("retrained", "method", "found"),
    [
        ({"retain": 0.66, "test": 0.44}, {"retain": 0.69, "test": 0.45}, ("", "")),
        ({"retain": 0.66, "test": 0.28}, {"retain": 0.69, "test": 0.45}, ("", "")),  # fewer examples
        ({"retain": 0.66, "test": 0.26}, {"retain": 0.69, "test": 0.45}, ("utility lost", "")),
        ({"retain": 0.23, "test": 0.44}, {"retain": 0.69, "test": 0.45}, ("utility lost", "")),
        ({"retain": 0.23, "test": 0.21}, {"retain": 0.55, "test": 0.42}, ("utility lost", "utility lost")),
        ({"retain": 0.23, "test": 0.10}, {"retain": 0.55, "test": 0.42}, ("at chance", "utility lost")),
    ],
)
def test_a_broken_retrain_is_no_reference(
    retrained: dict[str, float], method: dict[str, float], found: tuple[str, str]
) -> None:
    rows = [named("original", {"retain": 0.70, "test": 0.45}), named("retrain", retrained)]
    rows.append(named("ungan", method, retrained))
    _, reference, judged = judge_rows(rows, AttackConfig(), num_classes=10, sizes=SIZES)
    assert (reference.utility, judged.utility) == found
    if found[0]:
        assert "Retrain" in reference.caveat


def test_a_retrain_that_broke_under_one_seed_is_no_reference() -> None:
    original, retrained = named("original", RETRAIN), named("retrain", RETRAIN)
    test = retrained.accuracy["test"]
    broken = replace(retrained, accuracy=retrained.accuracy | {"test": replace(test, per_seed=[0.9, 0.9, 0.3])})
    _, reference = judge_rows([original, broken], AttackConfig(), num_classes=10, sizes=SIZES)
    assert reference.utility == "utility lost"
    assert "under one seed it classifies 30.0 % of test examples correctly, Original 90.0 %" in reference.caveat


def test_what_several_caveats_share_is_stated_once() -> None:
    report = make_report(3)
    rows = [
        replace(
            row,
            accuracy={name: replace(value, mean=mean) for name, value in row.accuracy.items()},
            loss={name: replace(value, mean=0.9 - mean) for name, value in row.loss.items()},
        )
        for row, mean in zip(report.rows, (0.1, 0.9, 0.09, 0.5, 0.4), strict=True)
    ]
    judged = judge_rows(rows, AttackConfig(), num_classes=10, sizes=report.sizes)
    at_chance, lost = merge_caveats(judged)
    for text in (at_chance, lost):
        assert text.count("classifies") == 2
        assert text.count("Their verdicts do not apply to working models.") == 1
        assert "Its verdict" not in text
    assert at_chance.count("Likely causes") == 1
    assert merge_caveats(judged[:2]) == [judged[0].caveat]
    assert merge_caveats(judged[1:2]) == []


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_the_interval_of_a_loss_covers_under_few_seeds(num_seeds: int) -> None:
    generator = np.random.default_rng(num_seeds)
    size, there, here = 60, 0.95, 0.85
    hits = []
    for _ in range(2000):
        shares = generator.binomial(size, [[there], [here]], (2, num_seeds)) / size
        found = share_difference_interval(*shares, num_examples=size, level=0.90)
        hits.append(found.low <= there - here <= found.high)
    assert 0.88 <= np.mean(hits) <= 0.95
