"""A target has its GPU for itself, and the memory of a GPU decides how many other units share it."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_process import without_progress
from small_audit import small_config

from ungan_dist.data.prepared import prepare
from ungan_dist.runs import pool
from ungan_dist.runs.placement import MAX_UNITS, PROCESS_BYTES, count_units, find_next, is_timed_alone
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Done, Unit


@given(
    units=st.lists(st.booleans(), max_size=12),
    num_gpus=st.integers(1, 3),
    num_processes=st.integers(1, 6),
    seed=st.integers(0, 10),
)
def test_every_unit_is_placed_and_a_timed_one_never_beside_another(
    units: list[bool], num_gpus: int, num_processes: int, seed: int
) -> None:
    """Units are pairs of a number and whether they need their GPU alone; they end in any order."""
    waiting: Any = deque(enumerate(units))
    running: dict[int, Any] = {}
    done: list[int] = []
    draws = random.Random(seed)
    while waiting or running:
        for slot in set(range(num_processes)) - running.keys():
            busy = [unit for other, unit in running.items() if other % num_gpus == slot % num_gpus]
            place = find_next(waiting, busy, lambda unit: unit[1])
            if place is not None:
                running[slot] = waiting[place]
                del waiting[place]
        for gpu in range(num_gpus):
            there = [unit for slot, unit in running.items() if slot % num_gpus == gpu]
            assert len(there) == 1 or not any(alone for _, alone in there)
        done.append(running.pop(draws.choice(list(running)))[0])
    assert sorted(done) == list(range(len(units)))


def test_memory_and_cores_decide_how_many_units_share_a_gpu() -> None:
    gib = 2**30
    assert count_units(gib, 141 * gib, 16) == MAX_UNITS
    assert count_units(gib, 141 * gib, 2) == 2
    assert count_units(50 * gib, 141 * gib, 16) == 2
    assert count_units(50 * gib, 60 * gib, 16) == 1
    assert count_units(50 * gib, 40 * gib, 16) == 1
    both = 2 * (gib + PROCESS_BYTES)
    assert count_units(gib, int(both / 0.9) + 10, 16) == 2
    assert count_units(gib, int(both / 0.9) - 10, 16) == 1


def test_targets_on_a_gpu_are_timed_alone(tmp_path: Path) -> None:
    plan = make_plan(small_config(tmp_path))
    assert not any(map(is_timed_alone, [*plan.targets, *plan.shadows]))
    assert all(is_timed_alone(replace(unit, device="cuda")) for unit in plan.targets)
    assert not any(is_timed_alone(replace(unit, device="cuda")) for unit in plan.shadows)


@pytest.mark.process
def test_processes_of_one_gpu_leave_it_to_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes share one GPU, which is only counted here: units run on the CPU."""
    plan = make_plan(small_config(tmp_path))
    prepare(plan.source, tmp_path)
    started: list[tuple[Unit, list[Unit]]] = []
    start = pool._Worker.start  # pyright: ignore[reportPrivateUsage]

    with LocalPool(2, num_gpus=1, is_alone=lambda unit: isinstance(unit, TargetUnit)) as own:

        def recorded(worker: Any, unit: Unit) -> None:
            started.append((unit, own._find_neighbours(worker)))  # pyright: ignore[reportPrivateUsage]
            start(worker, unit)

        monkeypatch.setattr(pool._Worker, "start", recorded)  # pyright: ignore[reportPrivateUsage]
        outcomes = list(without_progress(own.run_units([*plan.originals, *plan.shadows])))
        outcomes += list(without_progress(own.run_units(plan.unlearning)))
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert len(started) == len(outcomes) == 5
    for unit, beside in started:
        assert not any(isinstance(one, TargetUnit) for one in (unit, *beside)) or not beside
    assert any(beside for _, beside in started)
