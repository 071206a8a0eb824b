"""A real audit under Prometheus: which panels of the dashboard have data, and when each fault's alerts fire and end."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from dashboard import panels
from host_cluster import DRIVER
from hosts import SHARED
from monitored_cluster import KILL, MonitoredCluster
from small_root import nearly_filling

OUTPUT = "monitored"
WAIT_SECONDS = 400
"""Longest wait for panels or alerts: on an idle machine, alerts take 20 to 100 s."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel of the dashboard, and the number of series that each of its queries returned."""

    title: str
    num_series: list[int]

    @property
    def is_of_gpus(self) -> bool:
        return self.title.startswith("GPU: ")


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert that a fault has raised."""

    name: str
    fault: str
    ip: str
    """Host that the alert names; empty if it names none."""
    seconds_to_fire: float
    """From the fault."""
    seconds_to_end: float | None
    """From the repair; None if its end was not waited for."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What Prometheus showed of an audit."""

    seconds_to_data: float
    """From the first result until every panel had data, except those of GPUs."""
    panels: list[Panel]
    false_alerts: list[str]
    """Alerts that fired before any fault."""
    alerts: list[Alert]
    exit_codes: list[int]
    """Of the audit, in which units are killed until some are given up, and of the same command again."""


@dataclass(frozen=True, kw_only=True)
class _Fault:
    title: str
    names: set[str]
    """Alerts that it raises."""
    injecting: AbstractContextManager[None]
    lasting: set[str] = field(default_factory=set)
    """Alerts whose end is not waited for."""


def watch_audit(cluster: MonitoredCluster, look: Callable[[], None] = lambda: None) -> Watched:
    """Run an audit under Prometheus, inject one fault after another, and wait for their alerts to fire and to end.

    Args:
        cluster: Its Prometheus is started.
        look: Called after the faults, while the audit goes on.
    """
    cluster.start_prometheus()
    audit = cluster.start_audit(OUTPUT)
    try:
        cluster.wait_for_shadows(OUTPUT, 1, audit, timeout=600)
        seconds = cluster.wait_for(
            lambda: all(panel.is_of_gpus or all(panel.num_series) for panel in read_panels(cluster)),
            "data in every panel",
            timeout=WAIT_SECONDS,
        )
        seen, false_alerts = read_panels(cluster), sorted(cluster.list_firing())
        alerts = [alert for fault in _list_faults(cluster, audit, look) for alert in _watch(cluster, fault)]
        again = cluster.start_audit(OUTPUT).wait(900)
    except BaseException as error:
        error.add_note(cluster.log_of(OUTPUT).read_text()[-5000:])
        raise
    return Watched(
        seconds_to_data=round(seconds, 1),
        panels=seen,
        false_alerts=false_alerts,
        alerts=alerts,
        exit_codes=[audit.returncode, again],
    )


def read_panels(cluster: MonitoredCluster) -> list[Panel]:
    """Run every panel's queries as Grafana does with all sessions chosen."""
    return [
        Panel(
            title=panel["title"],
            num_series=[len(cluster.query(target["expr"].replace("$session", ".*"))) for target in panel["targets"]],
        )
        for panel in panels()
    ]


def _list_faults(cluster: MonitoredCluster, audit: subprocess.Popen[bytes], look: Callable[[], None]) -> list[_Fault]:
    return [
        _Fault(title="every worker stands still", names={"UnganNoProgress"}, injecting=_stopping_workers(cluster)),
        _Fault(
            title="a host's disk is filled to 93 %",
            names={"UnganDiskNearlyFull"},
            injecting=nearly_filling(cluster.network["left"]),
        ),
        _Fault(
            title="the shared disk is filled to 93 %",
            names={"UnganOutputNearlyFull"},
            injecting=nearly_filling(cluster.network[DRIVER], str(SHARED)),
        ),
        _Fault(title="the power of a host is cut", names={"UnganHostGone"}, injecting=_cutting_power(cluster)),
        _Fault(
            title="each process is killed in its unit",
            names={"UnganUnitsGivenUp", "UnganManyRetries"},
            injecting=_killing_units(cluster, audit, look),
            lasting={"UnganManyRetries"},  # it looks back 15 minutes
        ),
    ]


def _watch(cluster: MonitoredCluster, fault: _Fault) -> list[Alert]:
    fired: dict[str, tuple[float, str]] = {}
    ended: dict[str, float] = {}

    def note_firing() -> bool:
        for name, labels in cluster.list_firing().items():
            fired.setdefault(name, (time.monotonic() - begun, labels.get("ip", "")))
        return fault.names <= set(fired)

    def note_ends() -> bool:
        for name in fault.names - set(cluster.list_firing()):
            ended.setdefault(name, time.monotonic() - repaired)
        return fault.names - fault.lasting <= set(ended)

    begun = time.monotonic()
    with fault.injecting:
        cluster.wait_for(note_firing, f"{fault.names} after: {fault.title}", timeout=WAIT_SECONDS)
    repaired = time.monotonic()
    cluster.wait_for(note_ends, f"the end of {fault.names} after: {fault.title}", timeout=WAIT_SECONDS)
    return [
        Alert(
            name=name,
            fault=fault.title,
            ip=fired[name][1],
            seconds_to_fire=round(fired[name][0], 1),
            seconds_to_end=round(ended[name], 1) if name in ended else None,
        )
        for name in sorted(fault.names)
    ]


@contextlib.contextmanager
def _stopping_workers(cluster: MonitoredCluster) -> Iterator[None]:
    cluster.signal_workers("STOP")
    yield
    cluster.signal_workers("CONT")


@contextlib.contextmanager
def _cutting_power(cluster: MonitoredCluster) -> Iterator[None]:
    cluster.network["right"].cut_power()
    yield
    cluster.network.boot("right")
    cluster.start_ray("right")


@contextlib.contextmanager
def _killing_units(
    cluster: MonitoredCluster, audit: subprocess.Popen[bytes], look: Callable[[], None]
) -> Iterator[None]:
    """Kill processes until units are given up; the repair is the end of the run that gave them up."""
    switch = cluster.network.shared / KILL
    switch.touch()
    yield
    switch.unlink()
    look()
    audit.wait(900)
