"""Simulate fleets past this machine: 8 to 4,096 GPUs, 128 to 10,000 shadow models, with and without failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from harness import RESULTS, value_row
from simulation import FleetSimulation, World

UNIT_S = 60.0
"""Length of a unit, a pair of shadow models. An assumption: no GPU has been measured yet."""
PAIR = 2
SIZES = ((8, 128), (64, 128), (64, 1024), (512, 1024), (512, 10_000), (1024, 10_000), (4096, 10_000))
"""GPUs and shadow models."""
FLEET_UNIT = "requests: a unit of a fleet, of its worker and of the driver"
"""Row of the suite ``counts``."""


def simulate(costs: World, *, quick: bool) -> Iterator[dict[str, object]]:
    """Simulate fleets of many sizes, with the measured costs of the driver and of a worker's start."""
    per_unit, world = read_requests(), replace(costs, unit_s=UNIT_S, spread=0.1, workers_per_node=8, tick_s=5.0)
    for num_workers, num_models in SIZES[:1] if quick else SIZES:
        plain_s = 0.0
        for name, one in {
            "no failures": world,
            "spot nodes": replace(world, losses_per_hour=0.2),
            "stragglers": replace(world, straggler_share=0.01),
        }.items():
            simulation = FleetSimulation(num_models // PAIR, num_workers, one)
            wall_s = simulation.run()
            assert not simulation.stop_reason, simulation.stop_reason
            plain_s = plain_s or wall_s
            requests = per_unit * simulation.num_done
            yield value_row(
                f"*simulated*: {num_models:,} shadow models on {num_workers:,} GPUs, {name}",
                wall_min=round(wall_s / 60, 1),
                longer_by=round(wall_s / plain_s - 1, 3),
                efficiency=round(simulation.work_s / num_workers / wall_s, 3),
                lost_nodes=simulation.num_lost_nodes,
                work_lost_in_GPU_hours=round(simulation.lost_s / 3600, 2),
                driver_busy=round(simulation.driver_s / wall_s, 3),
                calls_in_flight=simulation.max_calls,
                object_store_requests=round(requests),
                requests_per_s=round(requests / wall_s, 1),
            )


def read_requests() -> float:
    """Return the requests of a unit to object storage, as the suite ``counts`` has counted them."""
    rows = json.loads((RESULTS / "counts.json").read_text())["rows"]
    return next(row["counts"]["requests_per_unit"] for row in rows if row["subject"] == FLEET_UNIT)
