"""KLOM against the definition, written out with plain loops, and with the models that had each example."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from ungan_dist.attack.estimates import KLOM
from ungan_dist.attack.klom import compare_fleets, measure_examples, measure_klom
from ungan_dist.attack.ulira import UnlearnedFleet


def klom_by_hand(unlearned: list[float], retrained: list[float]) -> float:
    """Σ p log(p / q) over 20 bins of the joint range; q is at least 1e-5 where p is positive, and normalised."""
    unlearned, retrained = ([min(100.0, max(-100.0, one)) for one in some] for some in (unlearned, retrained))
    low, high = min(unlearned + retrained), max(unlearned + retrained)
    width = ((high if high > low else low + 1) - low) / 20

    def share(values: list[float], number: int) -> float:
        inside = [one for one in values if min(19, int((one - low) / width)) == number]
        return len(inside) / len(values)

    p, q = ([share(values, number) for number in range(20)] for values in (unlearned, retrained))
    q = [max(there, 1e-5) if here else there for here, there in zip(p, q, strict=True)]
    return sum(here * log(here / (there / sum(q))) for here, there in zip(p, q, strict=True) if here)


@pytest.mark.parametrize("shift", [0.0, 1.0, 30.0, 1e6])
def test_it_is_the_definition(shift: float) -> None:
    generator = np.random.default_rng(int(shift))
    retrained = generator.normal(2, 3, 100)
    unlearned = generator.normal(2, 3, 80) + shift
    assert measure_klom(unlearned, retrained) == pytest.approx(
        klom_by_hand(unlearned.tolist(), retrained.tolist()), abs=1e-9
    )


def test_equal_models_have_none_and_far_ones_the_most() -> None:
    margins = np.random.default_rng(0).normal(size=64)
    assert measure_klom(margins, margins) == 0
    assert measure_klom(np.full(5, 3.0), np.full(7, 3.0)) == 0
    assert measure_klom(np.full(5, 9.0), np.full(7, 3.0)) == pytest.approx(log(1 + 1e-5) - log(1e-5))


def fleet(shadows: list[int], shift: float, *, queries: int = 2) -> UnlearnedFleet:
    """Log-odds that depend on the shadow model alone, so that two methods have paired models."""
    rows = [np.random.default_rng(shadow).normal(size=(3, queries)) + shift for shadow in shadows]
    had = np.random.default_rng(9).random((max(shadows) // 2 + 1, 3)) < 0.5
    membership = np.array([had[shadow // 2] ^ bool(shadow % 2) for shadow in shadows])
    return UnlearnedFleet(
        log_odds=np.array(rows, np.float32),
        membership=membership,
        shadows=tuple(shadows),
        forget=np.arange(3),
        target=np.zeros((3, queries), np.float32),
    )


def test_a_method_is_compared_on_the_models_that_had_the_example_and_that_both_have() -> None:
    everything = list(range(80))
    fleets = {
        "original": {0: fleet(everything, 5.0)},
        "retrain": {0: fleet(everything[:70], 0.0)},
        "scrub": {0: fleet(everything[4:], 0.5), 1: fleet(everything, 0.5)},
        "copy": {0: fleet(everything[::-1], 0.0)},
    }
    found = compare_fleets(fleets, plain=1)
    assert list(found) == ["original", "scrub", "copy"]
    own, other = fleets["scrub"][0], fleets["retrain"][0]
    common = range(4, 70)
    values: list[float] = []
    for example in range(3):
        had = [shadow for shadow in common if other.membership[shadow, example]]
        values.append(
            klom_by_hand(
                [float(own.log_odds[shadow - 4, example, 1]) for shadow in had],
                [float(other.log_odds[shadow, example, 1]) for shadow in had],
            )
        )
    scrub, copy, original = found["scrub"], found["copy"], found["original"]
    assert isinstance(scrub, KLOM)
    assert isinstance(copy, KLOM)
    assert isinstance(original, KLOM)
    assert scrub.mean == [pytest.approx(np.mean(values), abs=1e-9)]
    assert scrub.percentile_95 == [pytest.approx(np.percentile(values, 95), abs=1e-9)]
    assert scrub.num_models == min(sum(other.membership[shadow, example] for shadow in common) for example in range(3))
    assert copy.percentile_95 == [0.0]
    assert original.mean[0] > scrub.mean[0]


def test_too_few_models_or_no_plain_query_are_stated() -> None:
    fleets = {name: {0: fleet(list(range(20)), 0.0)} for name in ("retrain", "scrub")}
    assert compare_fleets(fleets, plain=0) == {"scrub": "n/a (needs ≥ 32 unlearned shadow models)"}
    assert compare_fleets(fleets, plain=None) == {"scrub": "n/a (needs the query plain)"}
    assert compare_fleets({"scrub": fleets["scrub"]}, plain=0) == {}
    assert measure_examples(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0), bool)).shape == (0,)
