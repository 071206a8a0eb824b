"""Faults of hosts and their network: how each is injected and ends, during an audit on a cluster of hosts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from host_cluster import DRIVER, HEAD, HostCluster
from host_limits import filling_disk, limiting_cpu

Inject = Callable[[HostCluster, str], Iterator[None]]
"""Inject a fault during the audit of that output folder, yield until the audit has ended, and repair the cluster."""


def _cut_power(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.network["left"].cut_power()
    yield
    cluster.network.boot("left")
    cluster.start_ray("left")


def _unplug(name: str, seconds: float) -> Inject:
    def inject(cluster: HostCluster, output: str) -> Iterator[None]:
        cluster.network.unplug(name)
        time.sleep(seconds)
        cluster.network.plug_in(name)
        yield
        cluster.start_ray(name)

    return inject


def _separate_driver(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.network.separate(DRIVER, HEAD)
    time.sleep(20)
    cluster.network.join(DRIVER, HEAD)
    yield
    cluster.start_ray(DRIVER)


def _lose_head(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.network[HEAD].cut_power()
    cluster.network.boot(HEAD)
    yield
    cluster.start()


def _restart_head(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.network[HEAD].cut_power()
    cluster.network.boot(HEAD)
    cluster.start_ray(HEAD)
    yield
    cluster.start()


def _freeze(cluster: HostCluster, output: str) -> Iterator[None]:
    left = cluster.network["left"]
    left.run("kill -STOP -1; sleep 15; kill -CONT -1", check=False)
    yield
    cluster.start_ray("left")


def _finish_late(cluster: HostCluster, output: str) -> Iterator[None]:
    """Pull a worker's cable within a unit, and let it end after others have computed that unit; then plug it in."""
    results = cluster.network.shared / output / "shadows"
    _wait_until(lambda: len(list(results.glob("*.json"))) >= 8)
    cluster.signal_workers("STOP", "left")
    cluster.network.unplug("left")
    _wait_until(lambda: len(list(results.glob("*.json"))) == 12)
    cluster.signal_workers("STOP", "right")  # or the audit may end before
    before = _list_times(results)
    cluster.signal_workers("CONT", "left")
    _wait_until(lambda: _list_times(results) != before)
    cluster.network.plug_in("left")
    time.sleep(3)
    cluster.signal_workers("CONT", "right")
    yield
    cluster.start_ray("left")


def _list_times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def _wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the audit did not get there in time"
        time.sleep(0.05)


def _limit_cpu(cluster: HostCluster, output: str) -> Iterator[None]:
    with limiting_cpu(cluster.network["left"], 0.2):
        yield
    cluster.start_ray("left")


def _fill_disk(cluster: HostCluster, output: str) -> Iterator[None]:
    """Fill the disk, and kill the workers there, so that others start on it."""
    left = cluster.network["left"]
    with filling_disk(left):
        left.run("pkill -KILL -f ^ray::Worker", check=False)
        yield
    cluster.start_ray("left")


def _start_second_driver(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.signal_workers("STOP")  # or the first one may end before the second one is there
    second = cluster.network["left"].run(cluster.command(output), check=False)
    cluster.signal_workers("CONT")
    assert second.returncode == 2, second.stderr
    assert "another process is at work" in second.stderr
    yield


def _revoke_token(cluster: HostCluster, output: str) -> Iterator[None]:
    cluster.network[HEAD].cut_power()
    cluster.network.boot(HEAD)
    cluster.token = cluster.token[::-1]
    cluster.start_ray(HEAD)
    yield
    cluster.start()


def _disturb_cables(*, delay_ms: float, loss: float) -> Inject:
    def inject(cluster: HostCluster, output: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in (DRIVER, *cluster.workers):
                stack.enter_context(cluster.network.disturbing_cable(name, delay_ms=delay_ms, loss=loss))
            yield

    return inject


FAULTS: dict[str, Inject] = {
    "the power of a worker's host is cut": _cut_power,
    "a worker's cable is pulled for 3 s": _unplug("left", 3),
    "a worker's cable is pulled for 20 s": _unplug("left", 20),
    "a worker's cable is pulled, its unit is computed elsewhere, and its own result comes late": _finish_late,
    "the driver and the head cannot reach each other for 20 s": _separate_driver,
    "the power of the head's host is cut until the audit has ended": _lose_head,
    "the power of the head's host is cut, and it starts again at once with the same address": _restart_head,
    "5 % of the packets from and to workers and driver are lost": _disturb_cables(delay_ms=0, loss=0.05),
    "workers and driver are 200 ms away from the others, and 5 % of the packets are lost": _disturb_cables(
        delay_ms=100, loss=0.05
    ),
    "a worker's host stands still for 15 s": _freeze,
    "a worker's host has a fifth of a CPU": _limit_cpu,
    "a worker's host has a full disk, and its workers start again": _fill_disk,
    "a second driver on another host starts the same run": _start_second_driver,
    "the head starts again with another token": _revoke_token,
}
