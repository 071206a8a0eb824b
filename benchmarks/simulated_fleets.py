"""Simulate fleets past this machine: 8 to 4,096 GPUs, 128 to 10,000 shadow models, with and without failures.

The driver's costs and the start of a worker are those that the suite ``fleet`` has measured. Failures are rare and
their costs vary much, so that each fleet is simulated with many seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fleet import COSTS, KILL, NUM_WORKERS, UNIT_S, compare_row
from harness import RESULTS, value_row
from simulation import FleetSimulation, World

PAIR_S = 60.0
"""Length of a unit, a pair of shadow models. An assumption: no GPU has been measured yet."""
PAIR = 2
SIZES = ((8, 128), (64, 128), (64, 1024), (512, 1024), (512, 10_000), (1024, 10_000), (4096, 10_000))
"""GPUs and shadow models."""
SEEDS = {128: 300, 1024: 100, 10_000: 16}
"""Shadow models → seeds: as many as can be simulated in half a minute in all."""
QUICK_SEEDS = 3
QUANTILES = (0.05, 0.95)
FLEET_UNIT = "requests: a unit of a fleet, of its worker and of the driver"
"""Row of the suite ``counts``."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What one seed of a simulated fleet took."""

    wall_s: float
    work_s: float
    lost_s: float
    driver_s: float
    num_lost_nodes: int
    max_calls: int


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Simulate the measured fleet with a killed worker, then fleets of many sizes."""
    results = json.loads((RESULTS / "fleet.json").read_text())
    rows = {row["subject"]: row["values"] for row in results["rows"]}
    measured = rows[COSTS]
    yield value_row(
        "measured by the suite `fleet`",
        commit=results["measured_on"]["commit"],
        start_of_a_worker_s=measured["start_of_a_worker_s"],
        driver_ms_per_answer=measured["driver_ms_per_answer"],
        look_at_10000_calls_ms=measured["look_at_10000_calls_ms"],
    )
    costs = World(
        unit_s=UNIT_S,
        start_s=measured["start_of_a_worker_s"],
        event_s=measured["driver_ms_per_answer"] / 1e3,
        wait_s_per_call=measured["look_at_10000_calls_ms"] / 1e7,
    )
    yield from simulate_kill(costs, rows[KILL.subject])
    yield from simulate(costs, quick=quick)


def simulate_kill(costs: World, real: dict[str, float]) -> Iterator[dict[str, object]]:
    """Compare the measured fleet with a killed worker with its simulation.

    Its units have no checkpoints. The kill is noticed at once in the simulation: how long Ray takes is not measured.
    The last row has a worker that is never replaced, and is no check: it shows how little the replacement matters.
    """
    world = replace(costs, checkpoint_s=1e9, notice_s=0.0, workers_per_node=NUM_WORKERS)
    kills = (KILL.after_s,)

    def compare(name: str, one: World, kills: Sequence[float], real_s: float) -> dict[str, object]:
        simulation = FleetSimulation(KILL.num_units, NUM_WORKERS, one, num_warm=NUM_WORKERS, kills=kills)
        wall_s = simulation.run()
        if simulation.num_killed != len(kills):
            raise RuntimeError(f"{simulation.num_killed} of {len(kills)} workers were killed")
        subject = f"{KILL.num_units} units on {NUM_WORKERS} workers, {name}"
        return compare_row(subject, wall_s, real_s, KILL.num_units * UNIT_S / NUM_WORKERS)

    yield compare("no kill", world, (), real["wall_s"])
    yield compare("one killed", world, kills, real["with_a_kill_s"])
    without = compare("one killed, never replaced", replace(world, start_s=1e9), kills, real["with_a_kill_s"])
    yield {name: value for name, value in without.items() if name not in ("target", "met")}


def simulate(costs: World, *, quick: bool) -> Iterator[dict[str, object]]:
    """Simulate fleets of many sizes with many seeds, at the measured costs."""
    per_unit, world = read_requests(), replace(costs, unit_s=PAIR_S, spread=0.1, workers_per_node=8, tick_s=5.0)
    for num_workers, num_models in SIZES[:1] if quick else SIZES:
        num_seeds = QUICK_SEEDS if quick else SEEDS[num_models]
        num_units = num_models // PAIR
        plain: list[Simulated] = []
        for name, one in {
            "no failures": world,
            "spot nodes": replace(world, losses_per_hour=0.2),
            "stragglers": replace(world, straggler_share=0.01),
        }.items():
            fleets = [_simulate_one(num_units, num_workers, one, seed) for seed in range(num_seeds)]
            plain = plain or fleets
            yield value_row(
                f"*simulated*: {num_models:,} shadow models on {num_workers:,} GPUs, {name}",
                **_summarise(fleets, plain, num_workers, per_unit * num_units),
            )


def _simulate_one(num_units: int, num_workers: int, world: World, seed: int) -> Simulated:
    """Simulate a fleet; one seed draws the same lengths of units in every world."""
    simulation = FleetSimulation(num_units, num_workers, world, seed=seed)
    wall_s = simulation.run()
    if simulation.stop_reason or simulation.num_done != num_units:
        raise RuntimeError(f"{simulation.num_done} of {num_units} units are done: {simulation.stop_reason}")
    return Simulated(
        wall_s=wall_s,
        work_s=simulation.work_s,
        lost_s=simulation.lost_s,
        driver_s=simulation.driver_s,
        num_lost_nodes=simulation.num_lost_nodes,
        max_calls=simulation.max_calls,
    )


def _summarise(
    fleets: Sequence[Simulated], plain: Sequence[Simulated], num_workers: int, requests: float
) -> dict[str, Any]:
    """Summarise the seeds of a fleet: means, and quantiles of the wall time relative to the fleet without failures."""
    longer = [one.wall_s / other.wall_s - 1 for one, other in zip(fleets, plain, strict=True)]
    low, high = np.quantile(longer, QUANTILES).round(3) + 0.0  # no negative zero
    return {
        "seeds": len(fleets),
        "wall_min": round(_mean(one.wall_s / 60 for one in fleets), 1),
        "longer_by": round(_mean(longer), 3),
        "longer_by,_5_%": float(low),
        "longer_by,_95_%": float(high),
        "efficiency": round(_mean(one.work_s / num_workers / one.wall_s for one in fleets), 3),
        "lost_nodes": round(_mean(one.num_lost_nodes for one in fleets), 2),
        "work_lost_in_GPU_hours": round(_mean(one.lost_s / 3600 for one in fleets), 3),
        "driver_busy": round(_mean(one.driver_s / one.wall_s for one in fleets), 3),
        "calls_in_flight": max(one.max_calls for one in fleets),
        "object_store_requests": round(requests),
        "requests_per_s": round(_mean(requests / one.wall_s for one in fleets), 1),
    }


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def read_requests() -> float:
    """Return the requests of a unit to object storage, as the suite ``counts`` has counted them."""
    rows = json.loads((RESULTS / "counts.json").read_text())["rows"]
    return next(row["counts"]["requests_per_unit"] for row in rows if row["subject"] == FLEET_UNIT)
