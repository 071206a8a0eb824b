"""The rate that a probe derives from its passes, on a fake clock."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_audit import small_config
from torch import nn

from ungan_dist.runs.forecast import probe
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.shadows import ShadowUnit

EPOCH_S = 0.1
QUERY_S = 0.05
START_S = 0.2
"""Cost of starting a pass."""


class Clock:
    """A clock that only training and queries move; the first pass costs ten seconds more."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.passes: list[int] = []

    def train(self, _: ShadowUnit, epochs: int) -> Any:
        self.now += START_S + EPOCH_S * epochs + (0 if self.passes else 10)
        self.passes.append(epochs)
        return SimpleNamespace(models=[nn.Linear(1, 1)])

    def query(self, _unit: ShadowUnit, _trained: Any) -> None:
        self.now += QUERY_S if len(self.passes) > 1 else 10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(probe, "_time_pass", inspect.unwrap(probe._time_pass))
    monkeypatch.setattr(probe, "_train", clock.train)
    monkeypatch.setattr(probe, "evaluate_shadows", clock.query)
    return clock


@pytest.mark.parametrize(
    ("seconds", "passes", "epoch_seconds"),
    [
        (0.01, [1, 1], START_S + EPOCH_S),  # one warm pass, with its start
        (1.5, [1, 1, 2], EPOCH_S),
        (8.0, [1, 1, 2, 4, 8, 16], EPOCH_S),
    ],
)
def test_the_first_pass_never_counts(
    tmp_path: Path, clock: Clock, seconds: float, passes: list[int], epoch_seconds: float
) -> None:
    unit = make_plan(small_config(tmp_path), device="cpu").shadows[0]
    num_examples = len(unit.pool) * unit.num_models
    training, querying, num_bytes = probe._time_unit(unit, seconds)
    assert clock.passes == passes
    assert training == pytest.approx(epoch_seconds / (num_examples / 2))
    assert querying == pytest.approx(QUERY_S / num_examples)
    assert num_bytes > 0
