"""Entropies of predictions, against their definition and where it loses all digits."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ungan_dist.training.evaluate import measure_entropies


@given(st.lists(st.floats(-6, 6), min_size=2, max_size=6), st.data())
def test_entropies_are_those_of_the_definition(logits: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0).tolist()
    modified = -(1 - p[label]) * log(p[label])
    modified -= sum(p[i] * log(1 - p[i]) for i in range(len(p)) if i != label)
    [[found, entropy]] = measure_entropies(torch.tensor([logits]), torch.tensor([label])).tolist()
    assert found == pytest.approx(modified, rel=1e-5, abs=1e-9)
    assert entropy == pytest.approx(-sum(value * log(value) for value in p), rel=1e-5, abs=1e-9)


def test_a_certain_prediction_keeps_its_digits() -> None:
    logits = torch.tensor([[100.0, 0.0], [0.0, 100.0], [-1000.0, 0.0]])
    found = measure_entropies(logits, torch.tensor([0, 0, 0]))[:, 0]
    # 1 - p = e^-100, so -(1 - p) log p + p log(1 + ...) = 2 e^-200; a wrong one pays 100 twice
    assert found[0].item() == pytest.approx(2 * torch.exp(torch.tensor(-200.0, dtype=torch.float64)).item(), rel=1e-6)
    assert found[1].item() == pytest.approx(200.0)
    assert found[2].item() == pytest.approx(2000.0)
