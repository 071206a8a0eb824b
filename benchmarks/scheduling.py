"""Scheduling without training: sleeping units on a local Ray cluster, and the policy in a simulated one.

``python benchmarks/scheduling.py`` writes ``results/scheduling.json``.
"""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

import harness
import numpy as np
import ray
from ray.cluster_utils import Cluster

HELPERS = str(Path(__file__).parents[1] / "tests/helpers")
sys.path.append(HELPERS)

from policy_simulation import Simulation  # noqa: E402
from sleeping_units import SleepingUnit, always_done, sleep  # noqa: E402

from ungan_dist.cluster.fleet import Fleet  # noqa: E402
from ungan_dist.config.execution import FleetConfig  # noqa: E402

NUM_UNITS, NUM_WORKERS, UNIT_SECONDS = 104, 8, 2.0


def measure_sleeping_units() -> dict[str, object]:
    """Wall time of sleeping units on warm workers, as a fraction of what no overhead would give."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    environment = {"env_vars": {"PYTHONPATH": HELPERS}}
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env=environment)
    config = FleetConfig(num_workers=NUM_WORKERS, cpus_per_worker=0.5, gpus_per_worker=0.0)
    units = [SleepingUnit(id=str(number), seconds=UNIT_SECONDS) for number in range(NUM_UNITS)]
    try:
        with Fleet(config, execute=sleep, is_done=always_done) as fleet:
            list(fleet.run_units([SleepingUnit(id=f"warm {worker}", seconds=3.0) for worker in range(NUM_WORKERS)]))
            start = time.monotonic()
            num_done = len(list(fleet.run_units(units)))
            wall = time.monotonic() - start
    finally:
        ray.shutdown()
        cluster.shutdown()
    ideal = num_done * UNIT_SECONDS / NUM_WORKERS
    subject = f"{NUM_UNITS} sleeping units on {NUM_WORKERS} workers"
    return {"subject": subject, "wall_seconds": wall, "efficiency": ideal / wall}


def measure_policy(num_units: int = 100_000, num_workers: int = 1024) -> dict[str, object]:
    """CPU time of a decision, and the size of the policy's state at the start and at the end."""
    simulation = Simulation(num_units, num_workers, seed=0, death_rate=0.001, error_rate=0.001)
    simulation.execute(simulation.policy.start())
    first_bytes = len(pickle.dumps(simulation.policy))
    seconds: list[float] = []
    while not simulation.policy.finished:
        simulation.slowest = 0.0
        simulation.step()
        seconds.append(simulation.slowest)
    return {
        "subject": f"policy, {num_units} units on {num_workers} simulated workers",
        "median_decision_ms": 1e3 * float(np.median(seconds)),
        "p999_decision_ms": 1e3 * float(np.quantile(seconds, 0.999)),
        "first_bytes": first_bytes,
        "last_bytes": len(pickle.dumps(simulation.policy)),
    }


def main() -> None:
    rows = [measure_policy(), measure_sleeping_units()]
    for row in rows:
        print(row)
    harness.write("scheduling", rows)


if __name__ == "__main__":
    main()
