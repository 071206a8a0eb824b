"""The passes of a probe and the rates that it derives from them, on a fake clock."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_audit import small_config
from torch import nn

from ungan_dist.runs.forecast import probe
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.training.world import World

EXAMPLE_S = 0.001
QUERY_S = 0.0001
START_S = 0.2
"""Cost of starting a pass."""
COLD_S = 10.0
"""Additional cost of the first training and of the first query."""


class Clock:
    """A clock that only training and queries move; the first pass costs more."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.passes: list[tuple[int, int]] = []
        """Examples and epochs."""

    def train(self, unit: ShadowUnit, epochs: int, _world: World) -> Any:
        self.now += START_S + EXAMPLE_S * len(unit.pool) / 2 * unit.num_models * epochs
        self.now += 0 if self.passes else COLD_S
        self.passes.append((len(unit.pool), epochs))
        return SimpleNamespace(models=[nn.Linear(1, 1)])

    def query(self, unit: ShadowUnit, _trained: Any) -> None:
        self.now += QUERY_S * len(unit.pool) * unit.num_models + (0 if len(self.passes) > 1 else COLD_S)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(probe, "_time_pass", inspect.unwrap(probe._time_pass))
    monkeypatch.setattr(probe, "_train", clock.train)
    monkeypatch.setattr(probe, "evaluate_shadows", clock.query)
    return clock


def make_unit(output: Path) -> ShadowUnit:
    unit = make_plan(small_config(output), device="cpu").shadows[0]
    return dataclasses.replace(unit, pool=np.arange(400))


@pytest.mark.parametrize(
    ("seconds", "passes"),
    [
        (1.0, [(8, 1)]),
        (20.9, [(8, 1), (8, 1)]),
        (22.0, [(8, 1), (8, 1), (32, 1), (128, 1)]),
        (23.0, [(8, 1), (8, 1), (32, 1), (128, 1), (400, 1)]),
        (30.0, [(8, 1), (8, 1), (32, 1), (128, 1), (400, 1), (400, 2), (400, 4), (400, 8)]),
    ],
)
def test_passes_grow_while_the_next_one_would_end_in_time(
    tmp_path: Path, clock: Clock, seconds: float, passes: list[tuple[int, int]]
) -> None:
    unit, seen = make_unit(tmp_path), []
    timing = probe._time_unit(unit, clock.now + seconds, seen.append)
    assert clock.passes == passes
    assert clock.now <= 1000 + max(seconds, 21)
    assert [(2 * one.num_examples, one.epochs) for one in seen] == passes
    assert timing == seen[-1]
    assert [one.is_cold for one in seen] == [True] + [False] * (len(passes) - 1)


def test_the_cold_pass_counts_only_if_it_is_the_only_one(tmp_path: Path, clock: Clock) -> None:
    unit, seen = make_unit(tmp_path), []
    probe._time_unit(unit, clock.now + 30, seen.append)
    models = unit.num_models
    cold, warm, *_, last = seen
    assert cold.train_seconds == pytest.approx((COLD_S + START_S) / (4 * models) + EXAMPLE_S)
    assert warm.train_seconds == pytest.approx(START_S / (4 * models) + EXAMPLE_S)
    assert warm.query_seconds == pytest.approx(QUERY_S)
    # the difference of two passes is free of the cost of starting a pass
    assert last.train_seconds == pytest.approx(EXAMPLE_S)
    assert last.batch_size == min(unit.train.batch_size, 200)
    assert last.weights_bytes > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondOfTwo(World):
    """Rank 1 of two processes, whose first one decides to stop after some passes."""

    decisions: Iterator[bool]

    def broadcast(self, value: Any) -> Any:
        return next(self.decisions)

    def synchronize(self) -> None:
        """Do not wait."""


@pytest.mark.parametrize("passes", [2, 5])
def test_the_first_process_decides_for_all_when_to_stop(tmp_path: Path, clock: Clock, passes: int) -> None:
    """A process that went on alone would wait for the others for ever."""
    world = SecondOfTwo(rank=1, size=2, decisions=iter([False] * (passes - 1) + [True]))
    probe.measure_together(make_unit(tmp_path), 1.0, world)
    assert len(clock.passes) == passes
