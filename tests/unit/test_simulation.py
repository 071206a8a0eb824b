"""The simulated fleet against what can be computed by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ray")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from simulation import FleetSimulation, World

PLAIN = World(unit_s=10.0, start_s=4.0, event_s=0.0, workers_per_node=4)


def test_a_fleet_without_failures_takes_its_ideal_time() -> None:
    assert FleetSimulation(24, 4, PLAIN, num_warm=4).run() == pytest.approx(60)
    assert FleetSimulation(24, 4, PLAIN).run() == pytest.approx(64)  # workers start first
    assert FleetSimulation(25, 4, PLAIN, num_warm=4).run() == pytest.approx(70)  # the last unit runs alone


def test_a_driver_that_is_slower_than_its_workers_decides_the_time() -> None:
    slow = replace(PLAIN, unit_s=0.1, event_s=0.5, tick_s=1e9)
    simulation = FleetSimulation(40, 4, slow, num_warm=4)
    wall_s = simulation.run()
    assert simulation.driver_s == pytest.approx(wall_s, rel=0.05)
    assert wall_s > 40 * 0.5


def test_a_lost_node_costs_what_was_done_since_the_checkpoints() -> None:
    world = replace(PLAIN, unit_s=1000.0, losses_per_hour=3.0, return_s=60.0, checkpoint_s=30.0)
    simulation = FleetSimulation(40, 16, world, seed=1)
    wall_s = simulation.run()
    assert simulation.num_done == 40
    assert simulation.num_lost_nodes > 3
    assert 0 < simulation.lost_s <= 30.0 * 4 * simulation.num_lost_nodes
    assert wall_s > FleetSimulation(40, 16, replace(world, losses_per_hour=0.0)).run()
    assert wall_s < FleetSimulation(40, 16, replace(world, checkpoint_s=1e9), seed=1).run()


def test_one_straggler_is_the_tail() -> None:
    world = replace(PLAIN, straggler_share=1.0, straggler_factor=3.0)
    assert FleetSimulation(4, 4, world, num_warm=4).run() == pytest.approx(30)
