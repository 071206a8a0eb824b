"""The energy distance by other libraries, those that are installed, against its definition by loops."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

from gpu_parts.energy_rivals import RIVALS, value_and_gradients


def mean_distance(some: list[list[float]], others: list[list[float]], *, pairs: int) -> float:
    return math.fsum(math.dist(one, other) for one in some for other in others) / pairs


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_computes_the_distance(name):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(size, 3, dtype=torch.float64, generator=generator) for size in (9, 7))
    a, b = x.tolist(), y.tolist()
    own = 0 if name == "geomloss" else 1
    within = mean_distance(a, a, pairs=9 * (9 - own)) + mean_distance(b, b, pairs=7 * (7 - own))
    expected = 2 * mean_distance(a, b, pairs=63) - within
    assert float(RIVALS[name](x, y)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", RIVALS)
def test_a_step_has_both_gradients(name):
    value, *gradients = value_and_gradients(RIVALS[name], 6, 2, "cpu")()
    assert value.ndim == 0
    assert [tuple(one.shape) for one in gradients] == [(6, 2), (6, 2)]
