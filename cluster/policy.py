"""What a fleet does next, decided from what has happened alone: no Ray, no clock, no file.

Events go in with the time they were seen at, actions come out; the same events give the same actions. One decision
costs a constant time, whatever the number of units (a tick: the number of workers).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["done", "error", "out_of_memory", "storage_full"]
"""How a unit's call ended."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How patient a fleet is."""

    max_system_failures: int = 3
    """Deaths of a worker at work on a unit before the unit is quarantined; the loss of a whole node is not counted."""
    max_application_failures: int = 2
    """Exceptions that a unit may raise before it is quarantined."""
    deadline_seconds: float | None = None
    """From a unit's start to the kill of its worker; none: ``slowness`` times the longest unit of its kind so far."""
    slowness: float = 10.0
    min_deadline_seconds: float = 120.0
    """Below which the deadline taken from finished units never falls."""
    wait_for_workers_seconds: float = 900.0
    """Without a single worker for so long, the fleet stops."""
    max_barren_workers: int = 3
    """Workers, a slot, that may die in a row before any of them comes up or ends a unit."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A worker is up."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class Started:
    """A worker has begun with a unit: its own report."""

    worker: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A unit's call has returned."""

    worker: int
    unit: str
    kind: Kind
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker is gone; what it had committed counts."""

    worker: int
    reason: str
    node_lost: bool = False
    committed: frozenset[str] = frozenset()
    """Those of its units that have a valid result all the same."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time has passed."""


Event = Joined | Started | Ended | Died | Tick


@dataclass(frozen=True, kw_only=True)
class Hire:
    """Start a worker."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Hand a unit to a worker."""

    worker: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class Kill:
    """End a worker; its death comes back as an event."""

    worker: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Dismiss:
    """End a worker that has nothing in hand, so that no event will tell of its death."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class Complete:
    """A unit is done."""

    unit: str


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """A unit is given up."""

    unit: str
    error: str
    kind: Kind = "error"


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Nothing more can be done; the rest is left for another run."""

    reason: str


Action = Hire | Submit | Kill | Dismiss | Complete | Quarantine | Stop


@dataclass
class _Worker:
    up: bool = False
    queue: deque[str] = field(default_factory=deque)
    """Units handed over, the one at work first."""
    starts: dict[str, float] = field(default_factory=dict)
    """When those of them began that have said so: the second one's report may come in before the first one's end."""
    doomed_for: str | None = None
    """The unit for whose sake it is being ended."""


def _one_kind(unit: str) -> str:
    del unit
    return ""


class Policy:
    """The state of a fleet, and what follows from each event."""

    def __init__(
        self, units: Iterable[str], num_workers: int, limits: Limits, kind_of: Callable[[str], str] = _one_kind
    ) -> None:
        """``kind_of`` names those units that take about as long as each other."""
        self._waiting = deque(units)
        self._kind_of = kind_of
        self._limits = limits
        self._workers: dict[int, _Worker] = {}
        self._next_worker = 0
        self._num_workers = num_workers
        self._in_flight = 0
        self._barren = 0
        self._longest: dict[str, float] = {}
        self._alone_since: float | None = None
        self._system_failures: dict[str, int] = {}
        self._application_failures: dict[str, int] = {}
        self._apart: set[str] = set()
        self.num_retries = 0
        """Calls that had to be made again."""
        self.stopped = False

    @property
    def finished(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.stopped or not (self._waiting or self._in_flight)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_up(self) -> int:
        return sum(worker.up for worker in self._workers.values())

    @property
    def num_wanted(self) -> int:
        return len(self._workers)

    def running(self, now: float) -> list[tuple[float, str, int]]:
        """Units at work: seconds since their start, id, worker; the longest first."""
        return sorted(
            (
                (now - worker.starts[worker.queue[0]], worker.queue[0], number)
                for number, worker in self._workers.items()
                if worker.queue and worker.queue[0] in worker.starts
            ),
            reverse=True,
        )

    def start(self, num_idle: int = 0) -> list[Action]:
        """The first actions.

        Args:
            num_idle: workers 0 … ``num_idle`` − 1 are up from before.
        """
        self._next_worker = num_idle
        self._workers = {number: _Worker(up=True) for number in range(num_idle)}
        actions: list[Action] = self._hire()
        for number in range(num_idle):
            actions += self._feed(number)
        return actions

    def on(self, event: Event, now: float) -> list[Action]:
        """What follows from an event seen at a time, in seconds of any steady clock."""
        if self.stopped:
            return []
        match event:
            case Joined(worker=number):
                if number not in self._workers:
                    return []
                self._workers[number].up = True
                self._barren = 0
                return self._feed(number)
            case Started(worker=number, unit=unit):
                worker = self._workers.get(number)
                if worker and unit in worker.queue:
                    worker.starts[unit] = now
                return []
            case Ended():
                return self._ended(event, now)
            case Died():
                return self._died(event)
            case Tick():
                return self._alone(now) or self._overdue(now)

    def _hire(self) -> list[Action]:
        """As many workers as there is work for, at most ``num_workers``."""
        actions: list[Action] = []
        while len(self._workers) < min(self._num_workers, len(self._waiting) + self._in_flight):
            self._workers[self._next_worker] = _Worker()
            actions.append(Hire(worker=self._next_worker))
            self._next_worker += 1
        return actions

    def _feed(self, number: int) -> list[Action]:
        """Hands a worker what it can take: a second unit ahead only while there is plenty for everyone.

        Units in whose company a worker died are handed out one by one: the first one's answer may have been lost with
        a process that the second one ended, and alone, each answers for itself.
        """
        worker = self._workers[number]
        actions: list[Action] = []
        while (
            worker.up
            and worker.doomed_for is None
            and self._waiting
            and len(worker.queue) < (2 if len(self._waiting) > len(self._workers) else 1)
            and not (worker.queue and self._apart & {worker.queue[0], self._waiting[0]})
        ):
            unit = self._waiting.popleft()
            worker.queue.append(unit)
            self._in_flight += 1
            actions.append(Submit(worker=number, unit=unit))
        return actions

    def _feed_idle(self) -> list[Action]:
        idle = [number for number, worker in self._workers.items() if worker.up and not worker.queue]
        return [*self._hire(), *(action for number in idle for action in self._feed(number))]

    def _ended(self, event: Ended, now: float) -> list[Action]:
        worker = self._workers.get(event.worker)
        if worker is None or event.unit not in worker.queue:
            return []
        worker.queue.remove(event.unit)
        began = worker.starts.pop(event.unit, None)
        if worker.queue and worker.queue[0] in worker.starts:
            worker.starts[worker.queue[0]] = now  # it reported before the one ahead of it had ended
        if event.kind == "done" and began is not None:
            # a failure says nothing of how long a unit takes
            kind = self._kind_of(event.unit)
            self._longest[kind] = max(self._longest.get(kind, 0.0), now - began)
        self._in_flight -= 1
        self._barren = 0
        num_waiting = len(self._waiting)
        actions = [*self._after(event), *self._end_worker(event, worker)]
        # a unit that came back may find other workers idle; without one, they would have been fed before
        again = len(self._waiting) > num_waiting
        if event.worker not in self._workers or again:
            return [*actions, *self._feed_idle()]
        return [*actions, *self._feed(event.worker)]

    def _end_worker(self, event: Ended, worker: _Worker) -> list[Action]:
        """A worker on which a unit has raised is not trusted with another: its device may be what is broken."""
        if event.kind == "error" and worker.doomed_for is None:
            worker.doomed_for = event.unit
            if worker.queue:
                return [Kill(worker=event.worker, reason=f"{event.unit} raised on it")]
        if worker.doomed_for is not None and not worker.queue:
            del self._workers[event.worker]
            return [Dismiss(worker=event.worker)]
        return []

    def _after(self, event: Ended) -> list[Action]:
        unit = event.unit
        match event.kind:
            case "done":
                self._forget(unit)
                return [Complete(unit=unit)]
            case "storage_full" | "out_of_memory":
                # would end the same way again; whoever planned the unit knows what to do
                self._forget(unit)
                return [Quarantine(unit=unit, error=event.error, kind=event.kind)]
            case "error":
                failures = self._application_failures[unit] = self._application_failures.get(unit, 0) + 1
                if failures < self._limits.max_application_failures:
                    self.num_retries += 1
                    # behind the others: what fails may fail again
                    self._waiting.append(unit)
                    return []
                self._forget(unit)
                return [Quarantine(unit=unit, error=event.error)]

    def _died(self, event: Died) -> list[Action]:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return []
        self._in_flight -= len(worker.queue)
        actions: list[Action] = []
        suspect = worker.queue[0] if worker.queue and not event.node_lost else None
        if worker.doomed_for not in (None, suspect):
            suspect = None  # it was ended for another unit's sake
        for unit in reversed(worker.queue):
            if unit in event.committed:
                self._forget(unit)
                actions.append(Complete(unit=unit))
                continue
            if suspect is not None:
                self._apart.add(unit)
            if unit == suspect:
                failures = self._system_failures[unit] = self._system_failures.get(unit, 0) + 1
                if failures >= self._limits.max_system_failures:
                    self._forget(unit)
                    error = f"its worker was lost {failures} times, the last time: {event.reason}"
                    actions.append(Quarantine(unit=unit, error=error))
                    continue
            self.num_retries += 1
            # ahead of the others: it has waited already
            self._waiting.appendleft(unit)
        if not worker.up:
            self._barren += 1
            if self._barren >= self._limits.max_barren_workers * self._num_workers:
                self.stopped = True
                return [*actions, Stop(reason=f"{self._barren} workers in a row died at once: {event.reason}")]
        return [*actions, *self._feed_idle()]

    def _alone(self, now: float) -> list[Action]:
        if self.num_up:
            self._alone_since = None
            return []
        self._alone_since = now if self._alone_since is None else self._alone_since
        seconds = now - self._alone_since
        if seconds < self._limits.wait_for_workers_seconds:
            return []
        self.stopped = True
        return [Stop(reason=f"no worker came up in {seconds:.0f} s: the cluster has no room for one")]

    def _overdue(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for seconds, unit, number in self.running(now):
            deadline = self.deadline(unit)
            if deadline is not None and seconds > deadline and self._workers[number].doomed_for is None:
                self._workers[number].doomed_for = unit
                reason = f"{unit} ran for {seconds:.0f} s, its deadline was {deadline:.0f} s"
                actions.append(Kill(worker=number, reason=reason))
        return actions

    def deadline(self, unit: str) -> float | None:
        """Seconds that a unit may take; none before the first of its kind is done, unless one is given."""
        if self._limits.deadline_seconds is not None:
            return self._limits.deadline_seconds
        longest = self._longest.get(self._kind_of(unit))
        return None if longest is None else max(self._limits.min_deadline_seconds, self._limits.slowness * longest)

    def _forget(self, unit: str) -> None:
        """What is settled leaves no trace, so that memory does not grow with the number of units done."""
        self._system_failures.pop(unit, None)
        self._application_failures.pop(unit, None)
        self._apart.discard(unit)
