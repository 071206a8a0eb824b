"""Compare real fleets on 1, 2 and 4 nodes of this machine with their simulation; the units sleep for measured times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import ray
from fleet import compare_row
from harness import RESULTS
from simulation import FleetSimulation, World
from sleeping_fleets import HELPERS, run_lengths, start_workers
from sleeping_units import always_done, sleep

from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.execution import FleetConfig

NODES = (1, 2, 4)
WORKERS_PER_NODE = 2
QUICK = (3.0, 2.0, 4.0, 3.0)
"""Lengths of units at the smallest size, so long that other work on the machine changes the wall time little."""


def read_lengths() -> list[float]:
    """Return the seconds that every second method took to unlearn, as the suite ``methods`` has measured them here."""
    rows = json.loads((RESULTS / "methods.json").read_text())["rows"]
    return [row["values"]["T_U_s"] for row in rows[::2]]


def measure_scaling(costs: World, *, quick: bool) -> Iterator[dict[str, object]]:
    """Run the same units on more and more nodes (strong scaling), and more units on more nodes (weak scaling).

    Args:
        costs: Measured costs of the driver.
        quick: Whether to use the smallest size.
    """
    from ray.cluster_utils import Cluster

    lengths = list(QUICK) if quick else read_lengths()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        num_nodes = 0
        for num_wanted in NODES:
            while num_nodes < num_wanted:
                cluster.add_node(num_cpus=WORKERS_PER_NODE)
                num_nodes += 1
            ray.init(
                address=cluster.address,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": {"PYTHONPATH": HELPERS}},
            )
            try:
                yield from _measure_nodes(costs, num_nodes, lengths)
            finally:
                ray.shutdown()
    finally:
        cluster.shutdown()


def _measure_nodes(costs: World, num_nodes: int, lengths: Sequence[float]) -> Iterator[dict[str, object]]:
    num_workers = num_nodes * WORKERS_PER_NODE
    config = FleetConfig(num_workers=num_workers, cpus_per_worker=1.0, gpus_per_worker=0.0)
    with Fleet(config, execute=sleep, is_done=always_done) as fleet:
        world = replace(costs, start_s=start_workers(fleet, num_workers), workers_per_node=WORKERS_PER_NODE)
        for kind, times in {"strong": NODES[-1], "weak": num_nodes}.items():
            some = list(lengths) * times
            real_s = run_lengths(fleet, some)
            simulation = FleetSimulation(len(some), num_workers, world, num_warm=num_workers, lengths=some)
            yield compare_row(
                f"{kind} scaling: {len(some)} units on {num_workers} workers, {num_nodes} nodes",
                simulation.run(),
                real_s,
                sum(some) / num_workers,
            )
