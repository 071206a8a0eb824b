"""Checks of a Ray cluster: does it answer, do its nodes share the storage, agree in versions and clocks, have room?"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ungan_dist.cluster.connection import connected
from ungan_dist.doctor.exposure import check_exposure
from ungan_dist.doctor.finding import Finding, failure, ok, warning
from ungan_dist.doctor.machine import disk_finding, free_memory, memory_finding
from ungan_dist.doctor.storage import clock_finding, scratch
from ungan_dist.errors import ConfigError
from ungan_dist.runs import versions

PATIENCE_S = 90.0
"""A node's first worker imports Ray and our package."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a node says of itself."""

    host: str
    versions: dict[str, str]
    time: float
    """Seconds since 1970."""
    free_memory: int
    free_disk: int
    num_cores: int
    storage: str
    """Empty where it read the driver's note and left one; else why not."""


def check_cluster(address: str, output: Path) -> Iterator[Finding]:
    """Everything about a cluster.

    Args:
        address: ``auto`` for the one of this machine, or host:port.
        output: where runs would be written.
    """
    if address == "auto" and not ray.is_initialized():
        # `run --cluster auto` would start one; a doctor only looks
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError:
            yield warning(
                "ray", f"Ray {ray.__version__}; none runs on this machine", "ray start --head, or let run start one"
            )
            return
        try:
            yield from _examined(output)
        finally:
            ray.shutdown()
        return
    try:
        with connected(address):
            yield from _examined(output)
    except ConfigError as error:
        yield failure(
            "ray", str(error), "start it (ray start --head), or correct --cluster; firewalls must let 6379 through"
        )


def _examined(output: Path) -> Iterator[Finding]:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    yield ok(
        "ray", f"Ray {ray.__version__}, {len(nodes)} nodes, {total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
    )
    yield from check_exposure(_dashboards(nodes))
    try:
        with scratch(output) as place:
            note = secrets.token_hex(16)
            (place / "driver").write_text(note)
            for node in nodes:
                yield from _examine_node(node, place, note)
    except OSError as error:
        yield failure("storage", f"{output}: {error.strerror or error}", "choose another --output")


def _examine_node(node: dict[str, Any], place: Path, note: str) -> Iterator[Finding]:
    name = node["NodeID"]
    where = f"{node['NodeManagerHostname']}/{name[:6]}"
    task = ray.remote(examine).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)
    )
    try:
        # the first call starts a process, the second one tells the time
        ray.get(task.remote(str(place), name, note), timeout=PATIENCE_S)
        sent = time.time()
        answer: Answer = ray.get(task.remote(str(place), name, note), timeout=PATIENCE_S)
        received = time.time()
    except (RayError, GetTimeoutError) as error:
        reason = str(error).strip().splitlines()[-1]
        yield failure(
            where,
            f"does not work: {type(error).__name__}: {reason}",
            "look at the node's Ray logs; restart or remove it",
        )
        return
    yield _same_versions(where, answer.versions)
    yield clock_finding(f"{where} clock", max(sent - answer.time, answer.time - received, 0.0), "this machine")
    if answer.storage or not (place / name).is_file() or (place / name).read_text() != note:
        reason = answer.storage or "what it writes there is not seen here"
        yield failure(
            f"{where} storage", f"{place.parent} is not shared: {reason}", "give --output a folder that all nodes share"
        )
    else:
        yield ok(f"{where} storage", f"reads and writes {place.parent}")
    # a node without CPUs takes no workers
    num_workers = int(min(node["Resources"].get("CPU", 0), answer.num_cores))
    if num_workers:
        yield memory_finding(f"{where} memory", answer.free_memory, num_workers)
    if not answer.storage:
        yield disk_finding(f"{where} disk", answer.free_disk, str(place.parent))


def examine(place: str, name: str, note: str) -> Answer:
    """Runs on a node."""
    problem = ""
    free_disk = 0
    folder = Path(place)
    try:
        if (folder / "driver").read_text() != note:
            problem = "it sees another file in the driver's place"
        (folder / name).write_text(note)
        free_disk = shutil.disk_usage(folder).free
    except OSError as error:
        problem = f"{error.strerror or error}"
    return Answer(
        host=socket.gethostname(),
        versions=versions(),
        time=time.time(),
        free_memory=free_memory(),
        free_disk=free_disk,
        num_cores=os.cpu_count() or 1,
        storage=problem,
    )


def _same_versions(where: str, theirs: dict[str, str]) -> Finding:
    ours = versions()
    different = [
        f"{name} {theirs.get(name, 'absent')} (here {ours[name]})" for name in ours if theirs.get(name) != ours[name]
    ]
    if different:
        return failure(
            f"{where} versions", ", ".join(different), "the same image or environment on every node, the driver's too"
        )
    return ok(f"{where} versions", "the same as here")


def _dashboards(nodes: list[dict[str, Any]]) -> list[str]:
    """Where strangers would ask: the dashboard's own address and its port on every node."""
    # of a connection that is open already it only tells
    listed = ray.init(ignore_reinit_error=True, logging_level=logging.ERROR).dashboard_url
    port = listed.rpartition(":")[2] if listed else "8265"
    hosts = {node["NodeManagerAddress"] for node in nodes}
    return sorted({*([listed] if listed else []), *(f"{host}:{port}" for host in hosts)})
