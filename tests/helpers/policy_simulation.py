"""A cluster simulated around the fleet's policy."""

from __future__ import annotations

import random
import time
from collections import Counter

from ungan_dist.cluster.policy import (
    Action,
    Complete,
    Died,
    Dismiss,
    Ended,
    Event,
    Hire,
    Joined,
    Kill,
    Kind,
    Limits,
    Policy,
    Quarantine,
    Started,
    Submit,
)


class Simulation:
    """A simulated cluster: workers take units, die and are replaced, and only the policy is real.

    ``slowest`` is the longest decision since it was last set to 0, in CPU seconds of this thread.
    """

    def __init__(self, num_units: int, num_workers: int, seed: int, death_rate: float, error_rate: float) -> None:
        self.random = random.Random(seed)
        self.policy = Policy(
            (f"unit-{i}" for i in range(num_units)),
            num_workers,
            Limits(max_system_failures=4, max_application_failures=3, max_barren_workers=10**9),
        )
        self.death_rate, self.error_rate = death_rate, error_rate
        self.settled: Counter[str] = Counter()
        self.alive: dict[int, list[str]] = {}
        self.killed: set[int] = set()
        self.busy: list[int] = []
        self.now = 0.0
        self.slowest = 0.0

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Hire(worker=worker):
                    self.alive[worker] = []
                    self.event(Joined(worker=worker))
                case Submit(worker=worker, unit=unit):
                    self.alive[worker].append(unit)
                    self.busy.append(worker)
                case Kill(worker=worker):
                    self.killed.add(worker)  # soon; what it does until then counts
                case Dismiss(worker=worker):
                    assert not self.alive.pop(worker)
                case Complete(unit=unit) | Quarantine(unit=unit):
                    self.settled[unit] += 1
                case _:
                    raise AssertionError(f"unexpected {action}")

    def event(self, event: Event) -> None:
        self.now += 0.01
        start = time.thread_time()
        actions = self.policy.on(event, self.now)
        self.slowest = max(self.slowest, time.thread_time() - start)
        self.perform(actions)

    def step(self) -> None:
        at = self.random.randrange(len(self.busy))
        self.busy[at], self.busy[-1] = self.busy[-1], self.busy[at]
        worker = self.busy.pop()
        if not self.alive.get(worker):
            return
        unit = self.alive[worker][0]
        for begun in self.alive[worker][: self.random.choice((1, 1, 2))]:
            self.event(Started(worker=worker, unit=begun))
        draw = self.random.random()
        if draw < (0.5 if worker in self.killed else self.death_rate):
            units = self.alive.pop(worker)
            committed = frozenset(unit for unit in units if self.random.random() < 0.3)
            self.event(Died(worker=worker, reason="x", node_lost=draw < self.death_rate / 2, committed=committed))
        else:
            self.alive[worker].pop(0)
            kind: Kind = "error" if self.random.random() < self.error_rate else "done"
            self.event(Ended(worker=worker, unit=unit, kind=kind))
