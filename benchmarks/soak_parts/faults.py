"""Faults of a soak, drawn from a seed: each is injected while an audit runs, and ends within half a minute."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from host_cluster import DRIVER, HEAD, HostCluster

from .processes import list_processes

Inject = Callable[[HostCluster, str], None]
"""Injects a fault on a worker's host, and ends it."""


def kill_process(cluster: HostCluster, host: str, kind: str, number: int = signal.SIGKILL) -> None:
    """Send a signal to the processes of one kind on a host.

    Raises:
        ProcessLookupError: There is none.
    """
    found = [one.pid for one in list_processes({host: cluster.network[host].pid}) if one.kind == kind]
    if not found:
        raise ProcessLookupError(f"no {kind} runs on {host}")
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _cut_power(cluster: HostCluster, host: str) -> None:
    cluster.network[host].cut_power()
    time.sleep(5)
    cluster.network.boot(host)
    cluster.start_ray(host)


def _cut_power_of_two(cluster: HostCluster, host: str) -> None:
    first = cluster.workers.index(host)
    both = (host, cluster.workers[(first + 1) % len(cluster.workers)])
    for name in both:
        cluster.network[name].cut_power()
    for name in both:
        cluster.network.boot(name)
        cluster.start_ray(name)


def _unplug(seconds: float) -> Inject:
    def inject(cluster: HostCluster, host: str) -> None:
        cluster.network.unplug(host)
        time.sleep(seconds)
        cluster.network.plug_in(host)

    return inject


def _disturb_cable(delay_ms: float, loss: float) -> Inject:
    def inject(cluster: HostCluster, host: str) -> None:
        with cluster.network.disturbing_cable(host, delay_ms=delay_ms, loss=loss):
            time.sleep(20)

    return inject


def _freeze(cluster: HostCluster, host: str) -> None:
    cluster.network[host].run("kill -STOP -1; sleep 10; kill -CONT -1", check=False)


def _separate_driver(cluster: HostCluster, host: str) -> None:
    del host
    cluster.network.separate(DRIVER, HEAD)
    time.sleep(15)
    cluster.network.join(DRIVER, HEAD)


def _lose_head(cluster: HostCluster, host: str) -> None:
    del host
    cluster.network[HEAD].cut_power()
    cluster.network.boot(HEAD)
    cluster.start()


FAULTS: dict[str, tuple[Inject, int]] = {
    "a worker process is killed": (lambda cluster, host: kill_process(cluster, host, "worker"), 3),
    "Ray's node process is killed on a worker's host": (lambda cluster, host: kill_process(cluster, host, "raylet"), 2),
    "the power of a worker's host is cut, and it boots after 5 s": (_cut_power, 3),
    "the power of two workers' hosts is cut at once, and they boot": (_cut_power_of_two, 1),
    "a worker's cable is pulled for 3 s": (_unplug(3), 2),
    "a worker's cable is pulled for 20 s": (_unplug(20), 2),
    "a worker's host loses 5 % of its packets for 20 s": (_disturb_cable(0, 0.05), 2),
    "a worker's host is 200 ms away and loses 5 % of its packets, for 20 s": (
        _disturb_cable(100, 0.05),
        2,
    ),
    "a worker's host stands still for 10 s": (_freeze, 2),
    "the command is killed": (lambda cluster, host: kill_process(cluster, DRIVER, "driver"), 2),
    "the command receives SIGTERM": (lambda cluster, host: kill_process(cluster, DRIVER, "driver", signal.SIGTERM), 1),
    "the driver and the head cannot reach each other for 15 s": (_separate_driver, 1),
    "the power of the head's host is cut, and the whole cluster starts again": (_lose_head, 1),
}
"""Name → how it is injected, and how often it is drawn beside the others."""
ENDING = (
    "the command is killed",
    "the command receives SIGTERM",
    "the driver and the head cannot reach each other for 15 s",
    "the power of the head's host is cut, and the whole cluster starts again",
)
"""Faults that end the command."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The next fault."""

    wait_s: float
    fault: str
    host: str


def draw_fault(draw: random.Random, workers: tuple[str, ...], *, spares_command: bool = False) -> Draw:
    """Draw a fault, its host, and the seconds until it comes.

    Args:
        draw: The generator.
        workers: Hosts that it may hit.
        spares_command: Whether the faults that end the command are left out.
    """
    names = [name for name in FAULTS if not (spares_command and name in ENDING)]
    fault = draw.choices(names, [FAULTS[name][1] for name in names])[0]
    return Draw(wait_s=draw.uniform(20, 60), fault=fault, host=draw.choice(workers))
