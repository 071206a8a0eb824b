"""Count the workers that fit on a cluster's nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ungan_dist.config.execution import FleetConfig
from ungan_dist.errors import ConfigError

DRIVER_CPUS_VARIABLE = "UNGAN_DIST_DRIVER_CPUS"
"""Environment variable with the number of CPUs that Ray reserves for a submitted driver on its node."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Resources that a fleet takes from a cluster."""

    num_workers: int
    gpus_per_worker: float
    cpus_per_worker: float

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_per_worker else "cpu"


def allocate_workers(config: FleetConfig, nodes: list[dict[str, Any]]) -> Allocation:
    """Choose the number of workers and their resources.

    Args:
        config: the requested fleet.
        nodes: as returned by ``ray.nodes()``.

    Raises:
        ConfigError: the request does not fit, or no worker fits; the message lists the available resources.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus_per_worker = config.gpus_per_worker
    if gpus_per_worker is None:
        gpus_per_worker = 1.0 if any(node.get("GPU") for node in alive) else 0.0
    available = sum(count_workers(node, config.cpus_per_worker, gpus_per_worker) for node in alive)
    wanted = config.num_workers or available
    if not config.autoscaling and (wanted > available or not wanted):
        nodes_text = "; ".join(f"{node.get('CPU', 0.0):g} CPUs, {node.get('GPU', 0.0):g} GPUs" for node in alive)
        raise ConfigError(
            f"the cluster has room for {available} workers, but {config.num_workers or 'at least 1'} requested, with "
            f"{config.cpus_per_worker:g} CPUs and {gpus_per_worker:g} GPUs per worker. Its {len(alive)} nodes have: "
            f"{nodes_text or 'nothing'}. Request fewer workers (--fleet.num-workers) or less per worker "
            f"(--fleet.cpus-per-worker, --fleet.gpus-per-worker), add nodes, or use --fleet.autoscaling"
        )
    return Allocation(num_workers=wanted, gpus_per_worker=gpus_per_worker, cpus_per_worker=config.cpus_per_worker)


def share_gpus(
    allocation: Allocation, nodes: list[dict[str, Any]], *, units_per_gpu: int, num_units: int
) -> Allocation:
    """Put several workers on each whole GPU of an allocation, where the CPUs suffice and there are units for them.

    Ray fills one GPU after another, so fewer workers than places would leave GPUs idle.

    Args:
        allocation: Workers with a whole GPU each; any other is returned unchanged.
        nodes: As returned by ``ray.nodes()``.
        units_per_gpu: Most workers on one GPU.
        num_units: Units to compute.

    Examples:
        >>> nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}}]
        >>> whole = Allocation(num_workers=2, gpus_per_worker=1.0, cpus_per_worker=1.0)
        >>> share_gpus(whole, nodes, units_per_gpu=4, num_units=6)
        Allocation(num_workers=6, gpus_per_worker=0.3333333333333333, cpus_per_worker=1.0)
    """
    if allocation.gpus_per_worker != 1:
        return allocation
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    for units in range(min(units_per_gpu, math.ceil(num_units / allocation.num_workers)), 1, -1):
        wanted = units * allocation.num_workers
        if sum(count_workers(node, allocation.cpus_per_worker, 1 / units) for node in alive) >= wanted:
            return replace(allocation, num_workers=wanted, gpus_per_worker=1 / units)
    return allocation


def take_whole_gpus(allocation: Allocation) -> Allocation:
    """Give the GPUs of an allocation to fewer workers with a whole GPU each, so that no unit has a neighbour.

    Examples:
        >>> take_whole_gpus(Allocation(num_workers=6, gpus_per_worker=0.25, cpus_per_worker=1.0))
        Allocation(num_workers=2, gpus_per_worker=1.0, cpus_per_worker=1.0)
    """
    if not 0 < allocation.gpus_per_worker < 1:
        return allocation
    # the slack keeps 3 × 1/3 of a GPU at one
    gpus = math.ceil(allocation.num_workers * allocation.gpus_per_worker - 1e-6)
    return replace(allocation, num_workers=gpus, gpus_per_worker=1.0)


def count_workers(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Count the workers of ``cpus`` and ``gpus`` that fit on one node."""
    # the slack keeps 3 × 1/3 of a GPU at three
    by_cpus = math.floor(resources.get("CPU", 0.0) / cpus + 1e-6)
    if not gpus:
        return by_cpus
    node_gpus = resources.get("GPU", 0.0)
    if gpus >= 1:
        return min(by_cpus, math.floor(node_gpus / gpus + 1e-6))
    # a share of a GPU never spans two of them
    return min(by_cpus, int(node_gpus) * math.floor(1 / gpus + 1e-6))


def without_cpus(node: dict[str, Any], cpus: float) -> dict[str, Any]:
    """Copy a node with ``cpus`` fewer CPUs."""
    return {**node, "Resources": {**node["Resources"], "CPU": node["Resources"].get("CPU", 0.0) - cpus}}
