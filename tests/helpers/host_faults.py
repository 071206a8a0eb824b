"""Faults of hosts and their network: how each is injected and ends, during an audit on a cluster of hosts."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from host_cluster import DRIVER, HEAD, HostCluster

Inject = Callable[[HostCluster], Iterator[None]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an audit did under a fault."""

    fault: str
    exit_code: int
    """Of the audit that the fault hit."""
    continued: bool
    """Whether the same command was run again."""
    seconds: float
    """From the fault to the complete table."""
    equal_bits: bool
    """Whether every array equals that of the undisturbed run, and there are no others."""


def _cut_power(cluster: HostCluster) -> Iterator[None]:
    cluster.network["left"].cut_power()
    yield
    cluster.network.boot("left")
    cluster.start_ray("left")


def _unplug(name: str, seconds: float) -> Inject:
    def inject(cluster: HostCluster) -> Iterator[None]:
        cluster.network.unplug(name)
        time.sleep(seconds)
        cluster.network.plug_in(name)
        yield
        cluster.start_ray(name)

    return inject


def _separate_driver(cluster: HostCluster) -> Iterator[None]:
    cluster.network.separate(DRIVER, HEAD)
    time.sleep(20)
    cluster.network.join(DRIVER, HEAD)
    yield
    cluster.start_ray(DRIVER)


def _lose_head(cluster: HostCluster) -> Iterator[None]:
    cluster.network[HEAD].cut_power()
    cluster.network.boot(HEAD)
    yield
    cluster.start()


def _restart_head(cluster: HostCluster) -> Iterator[None]:
    cluster.network[HEAD].cut_power()
    cluster.network.boot(HEAD)
    cluster.start_ray(HEAD)
    yield
    cluster.start()


def _lose_packets(cluster: HostCluster) -> Iterator[None]:
    with (
        cluster.network.disturbing_cable("left", loss=0.05),
        cluster.network.disturbing_cable("right", loss=0.05),
        cluster.network.disturbing_cable(DRIVER, loss=0.05),
    ):
        yield


def _freeze(cluster: HostCluster) -> Iterator[None]:
    left = cluster.network["left"]
    left.run("kill -STOP -1; sleep 15; kill -CONT -1", check=False)
    yield
    cluster.start_ray("left")


FAULTS: dict[str, Inject] = {
    "the power of a worker's host is cut": _cut_power,
    "a worker's cable is pulled for 3 s": _unplug("left", 3),
    "a worker's cable is pulled for 20 s": _unplug("left", 20),
    "the driver and the head cannot reach each other for 20 s": _separate_driver,
    "the power of the head's host is cut until the audit has ended": _lose_head,
    "the power of the head's host is cut, and it starts again at once with the same address": _restart_head,
    "5 % of the packets to workers and driver are lost": _lose_packets,
    "a worker's host stands still for 15 s": _freeze,
}


def _wait(audit: subprocess.Popen[bytes], timeout: float) -> tuple[int, float]:
    """Wait for an audit; return its exit code and when it ended."""
    return audit.wait(timeout), time.monotonic()


def run_under(cluster: HostCluster, fault: str, undisturbed: dict[str, bytes], *, timeout: float = 240) -> Outcome:
    """Run the audit, inject a fault after two results, and run the same command again if it asks for that.

    Args:
        cluster: The cluster, which is whole again afterwards.
        fault: A name of ``FAULTS``.
        undisturbed: Results of the audit without a fault.
        timeout: Seconds for each run of the command.

    Raises:
        AssertionError: The audit ended with neither 0 nor 3, or the second one did not end with 0.
    """
    output = f"fault-{list(FAULTS).index(fault)}"
    audit = cluster.start_audit(output)
    cluster.wait_for_shadows(output, 2, audit)
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as waiting:
        ended = waiting.submit(_wait, audit, timeout)
        with contextmanager(FAULTS[fault])(cluster):
            code, end = ended.result()
    took = end - begun
    log = cluster.log_of(output)
    assert code in (0, 3), f"{fault}: exit code {code}\n{log.read_text()}"
    if code:
        again = time.monotonic()
        second = cluster.start_audit(output).wait(timeout)
        took += time.monotonic() - again
        assert not second, f"{fault}, second run: exit code {second}\n{log.read_text()}"
    found = cluster.list_results(output)
    return Outcome(fault=fault, exit_code=code, continued=bool(code), seconds=took, equal_bits=found == undisturbed)


def as_row(outcome: Outcome) -> dict[str, object]:
    """Return an outcome for a results file."""
    return dataclasses.asdict(outcome) | {"seconds": round(outcome.seconds, 1)}
