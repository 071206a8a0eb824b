"""Philox against the generator's published test vectors."""

from __future__ import annotations

import numpy as np
import pytest

from ungan_dist.data.philox import philox, philox_words

# counter, key, output: Random123's known-answer tests of philox4x32 with 10 rounds
VECTORS = [
    ([0] * 4, [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    words = [np.array([word], dtype=np.uint64) for word in counter]
    assert philox_words(key[0] | key[1] << 32, *words).tolist() == [expected]


def test_a_draw_depends_on_example_epoch_and_purpose_alone() -> None:
    examples = np.array([7, 3, 7, 1])
    drawn = philox(5, examples, 2)
    assert (drawn[0] == drawn[2]).all()
    assert (philox(5, np.array([3]), 2)[0] == drawn[1]).all()
    assert (philox(5, examples, 3) != drawn).any(axis=1).all()
    assert (philox(5, examples, 2, purpose=1) != drawn).any(axis=1).all()


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        philox(-1, np.array([0]), 0)
