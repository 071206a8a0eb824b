"""Joining or starting a Ray cluster, and what it has room for."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import services

from ungan_dist.config.execution import FleetConfig
from ungan_dist.errors import ConfigError


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to a cluster: the one at hand where this process has one, else joined, or started for ``auto``.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "auto":
            address = os.environ.get("RAY_ADDRESS", "auto")
        if address == "auto":
            address = at_hand() or "local"
        if address != "local" and "://" not in address:
            _answers(address)
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster at {address!r}: {error}") from error
    # Ray puts a handler of its own in place, which would end the run without its partial report
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def at_hand() -> str | None:
    """Of the cluster that was last started on this machine; none where nothing listens there any more.

    A head that was killed leaves its address behind, at which Ray would try for 14 minutes.
    """
    try:
        found = services.canonicalize_bootstrap_address("auto")
        if found is not None:
            _answers(found)
    except OSError:
        return None
    return found


def _answers(address: str) -> None:
    """Asks whether anything listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("an address is host:port, the port that the head was started with (6379 unless told)")
    socket.create_connection((host, int(port)), timeout=10).close()


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a fleet takes of a cluster."""

    num_workers: int
    gpus_per_worker: float
    cpus_per_worker: float

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_per_worker else "cpu"


def room_for(config: FleetConfig, nodes: list[dict[str, Any]]) -> Room:
    """How many workers a cluster's nodes have room for.

    Args:
        config: what is asked.
        nodes: as ``ray.nodes()`` lists them.

    Raises:
        ConfigError: less than what is asked, or nothing at all; the message says what there is and what to change.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(resources.get("GPU", 0.0) for resources in alive)
    gpus_per_worker = config.gpus_per_worker
    if gpus_per_worker is None:
        gpus_per_worker = 1.0 if gpus else 0.0
    room = [places(resources, config.cpus_per_worker, gpus_per_worker) for resources in alive]
    there = "; ".join(f"{node.get('CPU', 0.0):g} CPUs, {node.get('GPU', 0.0):g} GPUs" for node in alive) or "no node"
    asked = f"{config.cpus_per_worker:g} CPUs and {gpus_per_worker:g} GPUs a worker"
    wanted = config.num_workers or sum(room)
    if not config.autoscaling and (wanted > sum(room) or not wanted):
        raise ConfigError(
            f"the cluster has room for {sum(room)} workers; asked are {config.num_workers or 'at least 1'}, with "
            f"{asked}; its {len(alive)} nodes have: {there}. Ask for fewer (--fleet.num-workers), for less "
            f"(--fleet.cpus-per-worker, --fleet.gpus-per-worker), add nodes, or say --fleet.autoscaling"
        )
    return Room(num_workers=wanted, gpus_per_worker=gpus_per_worker, cpus_per_worker=config.cpus_per_worker)


DRIVER_CPUS = "UNGAN_DIST_DRIVER_CPUS"
"""Environment variable by which a submitted driver knows what its own job holds of its node."""


def less(node: dict[str, Any], cpus: float) -> dict[str, Any]:
    """A node of which a driver holds some CPUs."""
    return {**node, "Resources": {**node["Resources"], "CPU": node["Resources"].get("CPU", 0.0) - cpus}}


def places(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Workers that fit on one node; a small slack keeps 3 × 1/3 of a GPU at three."""
    fitting = [math.floor(resources.get("CPU", 0.0) / cpus + 1e-6)]
    if gpus >= 1:
        fitting.append(math.floor(resources.get("GPU", 0.0) / gpus + 1e-6))
    elif gpus:
        # a share lies on one GPU
        fitting.append(int(resources.get("GPU", 0.0)) * math.floor(1 / gpus + 1e-6))
    return min(fitting)
