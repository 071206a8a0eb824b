"""Decide a fleet's next actions from events alone, without Ray, a clock or files.

The same events give the same actions. A decision takes constant time, whatever the number of units; a tick takes time
proportional to the number of workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ungan_dist.cluster.events import (
    Action,
    CompleteUnit,
    DriverLost,
    Event,
    KillWorker,
    QuarantineUnit,
    ReleaseWorker,
    StartWorker,
    StopFleet,
    SubmitUnit,
    Tick,
    UnitEnded,
    UnitStarted,
    WorkerDied,
    WorkerReady,
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Failures and waiting times that a fleet tolerates."""

    max_system_failures: int = 3
    """Workers that a unit may lose before it is quarantined. The loss of a whole node is not counted."""
    max_application_failures: int = 2
    """Exceptions that a unit may raise before it is quarantined."""
    deadline_seconds: float | None = None
    """Seconds from a unit's start to the kill of its worker; defaults to ``slowness`` times the longest so far."""
    slowness: float = 10.0
    min_deadline_seconds: float = 120.0
    """Lower limit of a default deadline."""
    wait_for_workers_seconds: float = 900.0
    """Seconds without any worker after which the fleet stops."""
    max_failed_starts: int = 3
    """Workers per slot that may die in a row before one starts or ends a unit. Then the fleet stops; while it has other
    workers, it waits instead."""
    failed_starts_pause_seconds: float = 30.0
    """Seconds without new workers then: a host may be broken, such as one with a full disk."""


@dataclass
class _Worker:
    ready: bool = False
    units: deque[str] = field(default_factory=deque)
    """Submitted units, the running one first."""
    start_times: dict[str, float] = field(default_factory=dict)
    """Of the units that reported their start. The second may report before the end of the first arrives."""
    retired_for: str | None = None
    """The unit because of which the worker is ended."""


def _one_group(unit: str) -> str:
    del unit
    return ""


class Policy:
    """Hold the state of a fleet and return the actions that follow each event."""

    def __init__(
        self, units: Iterable[str], num_workers: int, limits: Limits, group_of: Callable[[str], str] = _one_group
    ) -> None:
        """Create a policy; ``group_of`` names the group of a unit, whose units take about equally long."""
        self._waiting = deque(units)
        self._group_of = group_of
        self._limits = limits
        self._workers: dict[int, _Worker] = {}
        self._next_worker = 0
        self._max_workers = num_workers
        self._num_submitted = 0
        self._num_failed_starts = 0
        """Starts that failed since a worker was ready or ended a unit."""
        self._num_failed_beside = 0
        """Starts that failed since the last pause. Other workers go on, so their success does not count."""
        self._paused_until = float("-inf")
        """No worker is started before this time."""
        self._longest: dict[str, float] = {}
        self._without_workers_since: float | None = None
        self._system_failures: dict[str, int] = {}
        self._application_failures: dict[str, int] = {}
        self._isolated: set[str] = set()
        self.num_retries = 0
        """Calls that were repeated."""
        self.stopped = False

    @property
    def finished(self) -> bool:
        """Whether no unit is left to wait for."""
        return self.stopped or not (self._waiting or self._num_submitted)

    @property
    def num_ready(self) -> int:
        return sum(worker.ready for worker in self._workers.values())

    @property
    def num_workers(self) -> int:
        """Workers that are ready or starting."""
        return len(self._workers)

    def list_running(self, now: float) -> list[tuple[float, str, int]]:
        """List the running units as (seconds since the start, id, worker), the longest first."""
        return sorted(
            (
                (now - worker.start_times[worker.units[0]], worker.units[0], number)
                for number, worker in self._workers.items()
                if worker.units and worker.units[0] in worker.start_times
            ),
            reverse=True,
        )

    def start(self, num_idle: int = 0) -> list[Action]:
        """Return the first actions; workers 0 … ``num_idle`` − 1 are ready already."""
        self._next_worker = num_idle
        self._workers = {number: _Worker(ready=True) for number in range(num_idle)}
        actions: list[Action] = self._start_workers(0.0)
        for number in range(num_idle):
            actions += self._submit_units(number)
        return actions

    def handle(self, event: Event, now: float) -> list[Action]:
        """Return the actions that follow an event.

        Args:
            event: as seen by the driver.
            now: its time, in seconds of any steady clock.
        """
        if self.stopped:
            return []
        match event:
            case WorkerReady(worker=number):
                if number not in self._workers:
                    return []
                self._workers[number].ready = True
                self._num_failed_starts = 0
                return self._submit_units(number)
            case UnitStarted(worker=number, unit=unit):
                worker = self._workers.get(number)
                if worker and unit in worker.units:
                    worker.start_times[unit] = now
                return []
            case UnitEnded():
                return self._handle_unit_end(event, now)
            case WorkerDied():
                return self._handle_death(event, now)
            case DriverLost(reason=reason):
                return self._stop(reason)
            case Tick():
                return self._check_workers(now) or [*self._check_deadlines(now), *self._start_workers(now)]

    def get_deadline(self, unit: str) -> float | None:
        """Return the seconds that a unit may take, or None before the first of its group is done."""
        if self._limits.deadline_seconds is not None:
            return self._limits.deadline_seconds
        longest = self._longest.get(self._group_of(unit))
        return None if longest is None else max(self._limits.min_deadline_seconds, self._limits.slowness * longest)

    def _start_workers(self, now: float) -> list[Action]:
        """Start one worker per unit, up to the limit."""
        actions: list[Action] = []
        if now < self._paused_until:
            return actions
        while len(self._workers) < min(self._max_workers, len(self._waiting) + self._num_submitted):
            self._workers[self._next_worker] = _Worker()
            actions.append(StartWorker(worker=self._next_worker))
            self._next_worker += 1
        return actions

    def _submit_units(self, number: int) -> list[Action]:
        """Submit waiting units to a worker: a second one only while there are more units than workers.

        Units whose worker died are submitted one by one. The result of the first may have been lost because the second
        killed the process, and alone each is counted correctly.
        """
        worker = self._workers[number]
        actions: list[Action] = []
        while (
            worker.ready
            and worker.retired_for is None
            and self._waiting
            and len(worker.units) < (2 if len(self._waiting) > len(self._workers) else 1)
            and not (worker.units and self._isolated & {worker.units[0], self._waiting[0]})
        ):
            unit = self._waiting.popleft()
            worker.units.append(unit)
            self._num_submitted += 1
            actions.append(SubmitUnit(worker=number, unit=unit))
        return actions

    def _fill_idle_workers(self, now: float) -> list[Action]:
        idle = [number for number, worker in self._workers.items() if worker.ready and not worker.units]
        return [*self._start_workers(now), *(action for number in idle for action in self._submit_units(number))]

    def _handle_unit_end(self, event: UnitEnded, now: float) -> list[Action]:
        worker = self._workers.get(event.worker)
        if worker is None or event.unit not in worker.units:
            return []
        worker.units.remove(event.unit)
        started = worker.start_times.pop(event.unit, None)
        if worker.units and worker.units[0] in worker.start_times:
            worker.start_times[worker.units[0]] = now  # it reported before the end of the unit ahead of it
        if event.kind == "done" and started is not None:
            group = self._group_of(event.unit)
            self._longest[group] = max(self._longest.get(group, 0.0), now - started)
        self._num_submitted -= 1
        self._num_failed_starts = 0
        num_waiting = len(self._waiting)
        actions = [*self._settle_unit(event), *self._retire_worker(event, worker)]
        # a returned unit may find other workers idle; otherwise they already have units
        if event.worker not in self._workers or len(self._waiting) > num_waiting:
            return [*actions, *self._fill_idle_workers(now)]
        return [*actions, *self._submit_units(event.worker)]

    def _retire_worker(self, event: UnitEnded, worker: _Worker) -> list[Action]:
        """End a worker after a unit raised on it: its device may be broken."""
        if event.kind == "error" and worker.retired_for is None:
            worker.retired_for = event.unit
            if worker.units:
                return [KillWorker(worker=event.worker, reason=f"{event.unit} raised on it")]
        if worker.retired_for is not None and not worker.units:
            del self._workers[event.worker]
            return [ReleaseWorker(worker=event.worker)]
        return []

    def _settle_unit(self, event: UnitEnded) -> list[Action]:
        unit = event.unit
        match event.kind:
            case "done":
                self._forget_unit(unit)
                return [CompleteUnit(unit=unit)]
            case "storage_full" | "out_of_memory" | "failed" | "diverged":
                # a retry would end in the same way; the planner of the unit can change it
                self._forget_unit(unit)
                return [QuarantineUnit(unit=unit, error=event.error, kind=event.kind)]
            case "error":
                failures = self._application_failures[unit] = self._application_failures.get(unit, 0) + 1
                if failures < self._limits.max_application_failures:
                    self.num_retries += 1
                    self._waiting.append(unit)  # last, because it may fail again
                    return []
                self._forget_unit(unit)
                return [QuarantineUnit(unit=unit, error=event.error)]

    def _handle_death(self, event: WorkerDied, now: float) -> list[Action]:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return []
        self._num_submitted -= len(worker.units)
        actions: list[Action] = []
        suspect = worker.units[0] if worker.units and not event.node_lost else None
        if worker.retired_for not in (None, suspect):
            suspect = None  # the worker was killed because of another unit
        for unit in reversed(worker.units):
            if unit in event.committed:
                self._forget_unit(unit)
                actions.append(CompleteUnit(unit=unit))
                continue
            if suspect is not None:
                self._isolated.add(unit)
            if unit == suspect:
                failures = self._system_failures[unit] = self._system_failures.get(unit, 0) + 1
                if failures >= self._limits.max_system_failures:
                    self._forget_unit(unit)
                    error = f"its worker was lost {failures} times, the last time: {event.reason}"
                    actions.append(QuarantineUnit(unit=unit, error=error))
                    continue
            self.num_retries += 1
            self._waiting.appendleft(unit)  # first, because it has waited already
        if not worker.ready:
            self._num_failed_starts += 1
            self._num_failed_beside += 1
            limit = self._limits.max_failed_starts * self._max_workers
            if self.num_ready and self._num_failed_beside >= limit:
                self._num_failed_starts = self._num_failed_beside = 0
                self._paused_until = now + self._limits.failed_starts_pause_seconds
            elif not self.num_ready and self._num_failed_starts >= limit:
                self.stopped = True
                reason = f"{self._num_failed_starts} workers in a row died at their start: {event.reason}"
                return [*actions, StopFleet(reason=reason)]
        return [*actions, *self._fill_idle_workers(now)]

    def _check_workers(self, now: float) -> list[Action]:
        """Stop if there was no worker for too long."""
        if self.num_ready:
            self._without_workers_since = None
            return []
        if self._without_workers_since is None:
            self._without_workers_since = now
        seconds = now - self._without_workers_since
        if seconds < self._limits.wait_for_workers_seconds:
            return []
        return self._stop(f"no worker started within {seconds:.0f} s: the cluster has no room for one")

    def _stop(self, reason: str) -> list[Action]:
        self.stopped = True
        return [StopFleet(reason=reason)]

    def _check_deadlines(self, now: float) -> list[Action]:
        """Kill the workers of units that ran for too long."""
        actions: list[Action] = []
        for seconds, unit, number in self.list_running(now):
            deadline = self.get_deadline(unit)
            if deadline is not None and seconds > deadline and self._workers[number].retired_for is None:
                self._workers[number].retired_for = unit
                reason = f"{unit} ran for {seconds:.0f} s, its deadline was {deadline:.0f} s"
                actions.append(KillWorker(worker=number, reason=reason))
        return actions

    def _forget_unit(self, unit: str) -> None:
        """Remove a settled unit, so that memory does not grow with the number of finished units."""
        self._system_failures.pop(unit, None)
        self._application_failures.pop(unit, None)
        self._isolated.discard(unit)
