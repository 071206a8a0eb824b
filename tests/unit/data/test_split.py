"""Sizes, disjointness and balance of the sets and the membership matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ungan_dist.config.data import SplitConfig
from ungan_dist.config.recipes import custom, digits
from ungan_dist.data.membership import draw_members, draw_membership
from ungan_dist.data.split import draw_sets, hash_array, make_split, settle_sizes

EVEN = st.integers(1, 20).map(lambda half: 2 * half)


@given(num_models=EVEN, num_examples=EVEN, seed=st.integers(0, 2**32))
def test_membership_is_balanced_both_ways(num_models: int, num_examples: int, seed: int) -> None:
    membership = draw_membership(num_models, num_examples, seed)
    assert (membership.sum(axis=1) == num_examples // 2).all()
    assert (membership.sum(axis=0) == num_models // 2).all()
    assert (membership[0::2] == ~membership[1::2]).all()


@given(fewer=EVEN, more=EVEN, num_examples=EVEN, seed=st.integers(0, 2**32))
def test_more_models_extend_the_matrix(fewer: int, more: int, num_examples: int, seed: int) -> None:
    small, large = (draw_membership(number, num_examples, seed) for number in sorted((fewer, more)))
    assert (large[: len(small)] == small).all()


def test_single_rows_are_those_of_the_whole_matrix() -> None:
    whole = draw_membership(12, 100, 3)
    for models in ([0], [11], [4, 5], [7, 6, 2, 3, 3], range(12), []):
        assert (draw_members(models, 100, 3) == whole[list(models)]).all()


def test_pairs_and_seeds_are_drawn_independently() -> None:
    membership = draw_membership(8, 1000, 0)
    agreement = np.mean(membership[0] == membership[2])
    assert abs(agreement - 0.5) < 0.1
    assert (draw_membership(8, 1000, 1) != membership).any()


@pytest.mark.parametrize(("models", "examples"), [(3, 10), (0, 10), (4, 7), (4, 0)])
def test_odd_numbers_of_models_or_examples_are_refused(models: int, examples: int) -> None:
    with pytest.raises(ValueError, match="even"):
        draw_membership(models, examples, 0)


def test_sets_partition_the_examples_and_the_pool() -> None:
    config = SplitConfig(train=60, shadow_pool=60, unseen=20, forget_fraction=0.2)
    split = make_split(config, 200, None)
    everything = np.concatenate([split.pool, split.unseen, split.test])
    assert sorted(everything) == list(range(200))
    draw = draw_sets(config, 0)
    assert (len(draw.forget), len(draw.retain), len(draw.non_members)) == (12, 48, 60)
    assert sorted(np.concatenate([draw.train, draw.non_members])) == list(range(120))


def test_official_test_examples_are_never_trained_on() -> None:
    official = np.arange(50, 80)
    split = make_split(SplitConfig(train=30, shadow_pool=30, unseen=10), 200, official)
    assert (split.test == official).all()
    assert not np.isin(official, np.concatenate([split.pool, split.unseen])).any()


def test_seeds_redraw_from_the_same_pool() -> None:
    config = SplitConfig(train=60, shadow_pool=60, unseen=20, forget_fraction=0.2)
    first, second = draw_sets(config, 0), draw_sets(config, 1)
    assert (first.train != second.train).any()
    assert (first.forget != second.forget).any()
    assert (draw_sets(config, 0).forget == first.forget).all()


def test_too_few_examples_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"needs 1501 examples.*has 1000.*lower"):
        make_split(SplitConfig(), 1000, None)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 1e-9])
def test_a_forget_fraction_that_leaves_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="forget_fraction"):
        SplitConfig(forget_fraction=fraction)


def test_the_hash_depends_on_type_shape_and_content() -> None:
    arrays = [np.zeros(4, bool), np.zeros(4, np.int8), np.zeros((2, 2), bool), np.array([0, 0, 0, 1], bool)]
    assert len({hash_array(array) for array in arrays}) == 4


@pytest.mark.parametrize(
    ("num_examples", "num_test", "sizes", "fnr"),
    [
        (120, 0, (48, 48, 12, 12), 0.05),
        (1797, 0, (719, 719, 179, 180), 0.01),
        (50_000, 0, (20_000, 20_000, 5_000, 5_000), 0.01),
        (60_000, 10_000, (22_500, 22_500, 5_000, 10_000), 0.01),  # the paper's
        (70, 10, (27, 27, 6, 10), 0.05),
        (30, 0, (12, 12, 3, 3), 0.1),
    ],
)
def test_the_split_of_custom_follows_the_data(num_examples, num_test, sizes, fnr) -> None:
    config, warnings = settle_sizes(custom(data="pictures"), num_examples, num_test)
    official = np.arange(num_test) if num_test else None
    split = make_split(config.split, num_examples, official)
    assert (len(split.pool) - len(split.pool) // 2, len(split.pool) // 2) == sizes[:2]
    assert (len(split.unseen), len(split.test)) == sizes[2:]
    assert sum(sizes) == num_examples
    assert not config.split.follows_data
    assert (config.attack.fnr, bool(warnings)) == (fnr, fnr != 0.01)


def test_given_sizes_are_kept() -> None:
    assert settle_sizes(digits(), 1797, 0) == (digits(), [])
    asked = replace(custom(data="pictures"), split=SplitConfig(train=200, shadow_pool=0, unseen=0))
    split = settle_sizes(asked, 1000, 0)[0].split
    assert (split.train, split.shadow_pool, split.unseen) == (200, 200, 300)
    asked = replace(asked, attack=replace(asked.attack, fnr=0.02))
    with pytest.raises(ValueError, match="needs at least 50 retain examples, the split has 46"):
        settle_sizes(replace(asked, split=SplitConfig(train=0, shadow_pool=0, unseen=0)), 120, 0)
    with pytest.raises(ValueError, match="leaves 0 to forget"):
        settle_sizes(custom(data="pictures"), 20, 0)


def test_a_list_leaves_the_hashed_sizes_of_custom_as_they_were() -> None:
    assert custom(data="pictures", forget="forget.csv").split == SplitConfig()
