"""Measure the scheduling: units that sleep on real Ray clusters, beside their simulation.

``fleet`` starts a cluster of this machine, ``cluster`` uses the one that RAY_ADDRESS names. Both measure what the
simulation takes: the start of a worker, and the driver's time for an answer and for a look at its calls in flight.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from harness import value_row
from simulation import FleetSimulation, World
from sleeping_fleets import HELPERS, run, start_workers
from sleeping_units import SleepAndMark, always_done, sleep

from ungan_dist.cluster.connection import connect_to_ray
from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.execution import FleetConfig

WITHIN = 0.1
"""Largest relative error of a simulated wall time."""
NUM_WORKERS, UNIT_S = 8, 2.0
"""Workers on a cluster of this machine, and length of a unit."""
COSTS = "costs of a fleet"
"""Row of what a simulation takes."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A fleet of this machine that loses the process of one worker."""

    num_units: int = 5 * NUM_WORKERS
    after_s: float = 1.5 * UNIT_S

    @property
    def subject(self) -> str:
        return f"{self.num_units} units, and the same with one worker killed"


KILL = Kill()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a real fleet costs, in seconds."""

    start_s: float
    event_s: float
    wait_s_per_call: float
    warm_start_s: float


@contextmanager
def local_cluster(num_cpus: int = 4, path: str = HELPERS) -> Iterator[None]:
    """Start a cluster of this machine for the block, whose workers import from a folder."""
    from ray.cluster_utils import Cluster

    # or Ray ends idle processes after a second, and the next list of jobs starts them again
    keep = {"kill_idle_workers_interval_ms": 0}
    head = {"num_cpus": num_cpus, "include_dashboard": False, "_system_config": keep}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    environment = {"env_vars": {"PYTHONPATH": path}}
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env=environment)
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Measure a fleet on a cluster of this machine."""
    from scaling import measure_scaling

    with local_cluster():
        world = yield from measure_here(4 if quick else NUM_WORKERS, quick=quick, can_kill=not quick)
    yield from measure_scaling(world, quick=quick)


def measure_cluster(quick: bool) -> Iterator[dict[str, object]]:
    """Measure a fleet on the cluster that RAY_ADDRESS names, with a worker for each of its CPUs."""
    from simulated_fleets import simulate

    with connect_to_ray("auto", runtime_env={"env_vars": {"PYTHONPATH": HELPERS}}):
        world = yield from measure_here(2 * int(ray.cluster_resources()["CPU"]), quick=quick, can_kill=False)
    yield from simulate(world, quick=quick)


def measure_here(num_workers: int, *, quick: bool, can_kill: bool) -> Generator[dict[str, object], None, World]:
    """Measure a fleet on the cluster that this process is connected to, and return what its simulation takes."""
    unit_s, num_units = UNIT_S, (3 if quick else 13) * num_workers
    config = FleetConfig(num_workers=num_workers, cpus_per_worker=0.5, gpus_per_worker=0.0)
    with tempfile.TemporaryDirectory() as folder, _make_fleet(config, Path(folder) if can_kill else None) as fleet:
        measured = calibrate(fleet, num_workers, num_units=60 if quick else 600)
        undisturbed_s = killed_s = 0.0
        wall_s = run(fleet, num_units, unit_s)
        if can_kill:
            undisturbed_s = run(fleet, KILL.num_units, unit_s)
            killed_s = run(fleet, KILL.num_units, unit_s, killed_after=KILL.after_s)
    ideal_s = num_units * unit_s / num_workers
    subject = f"{num_units} sleeping units of {unit_s:g} s on {num_workers} warm workers"
    efficiency = ideal_s / wall_s
    yield value_row(
        subject,
        wall_s=round(wall_s, 2),
        efficiency=round(efficiency, 3),
        target="≥ .95",
        met=efficiency >= 0.95,
    )
    yield value_row(
        "a unit on a warm worker",
        start_s=round(measured.warm_start_s, 4),
        target="< 1 s",
        met=measured.warm_start_s < 1,
    )
    yield value_row(
        COSTS,
        start_of_a_worker_s=round(measured.start_s, 2),
        driver_ms_per_answer=round(1e3 * measured.event_s, 3),
        units_per_s=round(0.5 / measured.event_s),
        look_at_10000_calls_ms=round(1e7 * measured.wait_s_per_call, 2),
    )
    if can_kill:
        yield value_row(
            KILL.subject,
            wall_s=round(undisturbed_s, 2),
            with_a_kill_s=round(killed_s, 2),
        )
    world = World(
        unit_s=unit_s,
        start_s=measured.start_s,
        event_s=measured.event_s,
        wait_s_per_call=measured.wait_s_per_call,
        workers_per_node=num_workers,
    )
    simulated_s = FleetSimulation(num_units, num_workers, world, num_warm=num_workers).run()
    yield compare_row("simulated against real: the fleet above", simulated_s, wall_s, ideal_s)
    return world


def _make_fleet(config: FleetConfig, folder: Path | None) -> Fleet:
    """Make a fleet of sleeping units, which leave their results in the folder if one is given.

    A killed unit without a result is computed again.
    """
    if folder is None:
        return Fleet(config, execute=sleep, is_done=always_done)
    marking = SleepAndMark(notes=folder)
    return Fleet(config, execute=marking, is_done=marking.is_done)


def compare_row(subject: str, simulated_s: float, real_s: float, ideal_s: float) -> dict[str, object]:
    """Make a row of a simulated fleet beside the real one."""
    error = simulated_s / real_s - 1
    return value_row(
        subject,
        simulated_s=round(simulated_s, 2),
        real_s=round(real_s, 2),
        error=round(error, 3),
        simulated_efficiency=round(ideal_s / simulated_s, 3),
        real_efficiency=round(ideal_s / real_s, 3),
        target="within 10 %",
        met=abs(error) <= WITHIN,
    )


def calibrate(fleet: Any, num_workers: int, num_units: int) -> Measured:
    """Measure the costs of a fleet, whose workers start here."""
    # so long that each worker has started before the first unit ends
    start_s = start_workers(fleet, num_workers)
    # two answers for each unit: that it started, and that it ended
    event_s = run(fleet, num_units, 0.0) / num_units / 2
    warm_start_s = min(run(fleet, 1, 0.0) for _ in range(3))

    @ray.remote(num_cpus=10**6)
    def never() -> None:
        pass

    calls = [never.remote() for _ in range(1000)]
    begun = time.perf_counter()
    for _ in range(20):
        ray.wait(calls, num_returns=1, timeout=0)
    wait_s = (time.perf_counter() - begun) / 20 / len(calls)
    return Measured(start_s=start_s, event_s=event_s, wait_s_per_call=wait_s, warm_start_s=warm_start_s)
