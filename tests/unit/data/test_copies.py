"""Copies of forget examples, pixel for pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ungan_dist.config.data import SplitConfig
from ungan_dist.data.copies import find_copies, group_copies
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import draw_sets, make_split


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_examples_are_grouped_by_their_pixels(values: list[int]) -> None:
    images = np.array([np.full((2, 3, 1), value) for value in values], np.uint8)
    assert group_copies(images).tolist() == [values.index(value) for value in values]


def make_source(images: np.ndarray) -> Source:
    return Source(
        images=images,
        labels=np.arange(len(images)) % 2,
        num_classes=2,
        class_names=("a", "b"),
        title="copies",
        bundled=False,
        test=None,
        mean=(0.5,),
        std=(1.0,),
    )


def test_copies_are_counted_by_the_set_that_they_stand_in() -> None:
    """Compare with a search that looks at every pair of pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 2, 2, 1), dtype=np.uint8)[rng.integers(0, 60, 60)]
    source, config = make_source(images), SplitConfig(train=20, shadow_pool=20, unseen=10, forget_fraction=0.4)
    split = make_split(config, 60, None)
    draws = [draw_sets(config, seed) for seed in range(1)]
    found = find_copies(source, split, draws)
    retain, forget = split.pool[draws[0].retain], split.pool[draws[0].forget]
    others = np.concatenate([split.pool[draws[0].non_members], split.unseen, split.test])

    def same(example: int, among: np.ndarray) -> bool:
        return any(np.array_equal(images[example], images[other]) for other in among)

    retained = {int(example) for example in forget if same(example, retain)}
    never = {int(example) for example in forget if same(example, others)}
    assert retained
    assert never
    assert f"{len(retained | never)} of 8 forget examples" in found.sentence
    assert f"{len(retained)} have copies in the retain set, {len(never)} among examples never" in found.sentence
    assert {int(name) for name in found.named} <= retained | never


def test_the_worst_seed_is_named() -> None:
    images = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1).repeat(4, axis=1).repeat(4, axis=2)
    config = SplitConfig(train=20, shadow_pool=20, unseen=10, forget_fraction=0.4)
    split = make_split(config, 60, None)
    draws = [draw_sets(config, seed) for seed in range(3)]
    images[split.pool[draws[1].forget[0]]] = images[split.pool[draws[1].retain[0]]]
    found = find_copies(make_source(images), split, draws)
    assert found.sentence.startswith("1 of 8 forget examples have the same pixels as other examples, in the worst of 3")
    assert find_copies(make_source(images), split, [replace(draws[1], forget=draws[1].forget[1:])]).sentence == ""
