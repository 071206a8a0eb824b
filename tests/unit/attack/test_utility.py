"""Models that lost their utility, judged against Retrain and chance."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_report import make_report

from ungan_dist.attack.utility import add_caveats, judge_utility, merge_caveats

RETRAIN = {"retain": 0.95, "test": 0.90}


@pytest.mark.parametrize(
    ("retain", "test", "found"),
    [
        (0.95, 0.90, ("", [])),
        (0.85, 0.80, ("", [])),  # ten points, and not more
        (0.849, 0.90, ("utility lost", ["retain"])),
        (0.95, 0.799, ("utility lost", ["test"])),
        (0.80, 0.70, ("utility lost", ["retain", "test"])),
        (0.10, 0.90, ("at chance", ["retain"])),  # a constant model
        (0.0, 0.0, ("at chance", ["retain", "test"])),  # flipped labels
        (0.99, 0.93, ("", [])),  # better than Retrain
    ],
)
def test_the_margin_is_ten_points_of_accuracy(retain: float, test: float, found: tuple[str, list[str]]) -> None:
    sizes = {"retain": 1000, "test": 1000}
    accuracy = {"retain": retain, "test": test}
    assert judge_utility(accuracy, RETRAIN, num_classes=10, sizes=sizes) == found


@pytest.mark.parametrize(
    ("accuracy", "found"), [(0.080, ""), (0.0451, ""), (0.044, "utility lost"), (0.011, "at chance")]
)
def test_with_many_classes_half_of_what_retrain_has_above_chance_counts(accuracy: float, found: str) -> None:
    # of .08 and chance .01, half is .035 above chance
    judged, _ = judge_utility({"test": accuracy}, {"test": 0.08}, num_classes=100, sizes={"test": 10_000})
    assert judged == found


def test_without_retrain_the_original_takes_its_place_and_neither_is_judged_by_the_other() -> None:
    report = make_report(3, methods=("original", "ungan"))
    original, ungan = report.rows
    assert not any(row.utility for row in add_caveats([original, ungan], num_classes=10, sizes=report.sizes))
    worse = {name: type(value)(**{**vars(value), "mean": value.mean - 0.2}) for name, value in ungan.accuracy.items()}
    rows = [original, type(ungan)(**{**vars(ungan), "accuracy": worse})]
    first, second = add_caveats(rows, num_classes=10, sizes=report.sizes)
    assert (first.utility, second.utility) == ("", "utility lost")
    assert "correctly, Original " in second.caveat
    assert second.verdict == ungan.verdict  # the words of verdicts stay


def test_what_several_caveats_share_is_stated_once() -> None:
    report = make_report(3)
    rows = [
        replace(row, accuracy={name: replace(value, mean=mean) for name, value in row.accuracy.items()})
        for row, mean in zip(report.rows, (0.1, 0.9, 0.09, 0.5, 0.4), strict=True)
    ]
    judged = add_caveats(rows, num_classes=10, sizes=report.sizes)
    at_chance, lost = merge_caveats(judged)
    for text in (at_chance, lost):
        assert text.count("classifies") == 2
        assert text.count("Their verdicts do not apply to working models.") == 1
        assert "Its verdict" not in text
    assert at_chance.count("Likely causes") == 1
    assert merge_caveats(judged[:2]) == [judged[0].caveat]
    assert merge_caveats(judged[1:2]) == []
