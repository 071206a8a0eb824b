"""The definition of the log-odds against the softmax."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ungan_dist import kernels

log_odds = partial(kernels.log_odds, impl="reference")


def test_log_odds_are_those_of_the_softmax():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 20, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (20,), generator=generator)
    probability = logits.softmax(-1).gather(-1, labels.expand(3, 20)[..., None])[..., 0]
    torch.testing.assert_close(log_odds(logits, labels), torch.logit(probability), rtol=1e-12, atol=1e-12)


def test_log_odds_do_not_saturate():
    logits = torch.tensor([[[200.0, 0.0, 0.0], [-200.0, 0.0, 0.0]]])
    expected = torch.tensor([[200.0, -200.0]]) - np.log(2)
    torch.testing.assert_close(log_odds(logits, torch.tensor([0, 0])), expected)
    half = torch.tensor([[[9.0, 8.9, 0.3]]], dtype=torch.bfloat16)
    torch.testing.assert_close(log_odds(half, torch.tensor([0])), log_odds(half.float(), torch.tensor([0])))


@given(st.floats(-50, 50), st.lists(st.floats(-50, 50), min_size=2, max_size=2))
def test_log_odds_of_two_classes_are_the_margin_and_ignore_a_shift(shift, pair):
    logits = torch.tensor([[pair]], dtype=torch.float64)
    label = torch.tensor([1])
    assert log_odds(logits, label).item() == pair[1] - pair[0]
    torch.testing.assert_close(log_odds(logits + shift, label), log_odds(logits, label), rtol=0, atol=1e-12)


def test_log_odds_pass_nan_and_refuse_a_single_class():
    logits = torch.tensor([[[float("nan"), 1.0, 2.0], [1.0, float("nan"), 2.0], [1.0, 2.0, 3.0]]])
    values = log_odds(logits, torch.tensor([0, 0, 0]))
    assert values.isnan().tolist() == [[True, True, False]]
    with pytest.raises(ValueError, match="classes ≥ 2"):
        log_odds(torch.zeros(1, 4, 1), torch.zeros(4, dtype=torch.long))
