"""A cluster simulated around the fleet's policy."""

from __future__ import annotations

import random
import time
from collections import Counter

from ungan_dist.cluster.events import (
    Action,
    CompleteUnit,
    Event,
    KillWorker,
    Kind,
    QuarantineUnit,
    ReleaseWorker,
    StartWorker,
    SubmitUnit,
    UnitEnded,
    UnitStarted,
    WorkerDied,
    WorkerReady,
)
from ungan_dist.cluster.policy import Limits, Policy


class Simulation:
    """A simulated cluster: workers take units, die and are replaced, and only the policy is real.

    ``slowest`` is the longest decision since it was last set to 0, in CPU seconds of this thread.
    """

    def __init__(self, num_units: int, num_workers: int, seed: int, death_rate: float, error_rate: float) -> None:
        self.random = random.Random(seed)
        self.policy = Policy(
            (f"unit-{i}" for i in range(num_units)),
            num_workers,
            Limits(max_system_failures=4, max_application_failures=3, max_failed_starts=10**9),
        )
        self.death_rate, self.error_rate = death_rate, error_rate
        self.settled: Counter[str] = Counter()
        self.alive: dict[int, list[str]] = {}
        self.killed: set[int] = set()
        self.busy: list[int] = []
        self.now = 0.0
        self.slowest = 0.0

    def execute(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case StartWorker(worker=worker):
                    self.alive[worker] = []
                    self.report(WorkerReady(worker=worker))
                case SubmitUnit(worker=worker, unit=unit):
                    self.alive[worker].append(unit)
                    self.busy.append(worker)
                case KillWorker(worker=worker):
                    self.killed.add(worker)  # takes effect later; its units still count until then
                case ReleaseWorker(worker=worker):
                    assert not self.alive.pop(worker)
                case CompleteUnit(unit=unit) | QuarantineUnit(unit=unit):
                    self.settled[unit] += 1
                case _:
                    raise AssertionError(f"unexpected {action}")

    def report(self, event: Event) -> None:
        self.now += 0.01
        start = time.thread_time()
        actions = self.policy.handle(event, self.now)
        self.slowest = max(self.slowest, time.thread_time() - start)
        self.execute(actions)

    def step(self) -> None:
        at = self.random.randrange(len(self.busy))
        self.busy[at], self.busy[-1] = self.busy[-1], self.busy[at]
        worker = self.busy.pop()
        if not self.alive.get(worker):
            return
        unit = self.alive[worker][0]
        for started in self.alive[worker][: self.random.choice((1, 1, 2))]:
            self.report(UnitStarted(worker=worker, unit=started))
        draw = self.random.random()
        if draw < (0.5 if worker in self.killed else self.death_rate):
            units = self.alive.pop(worker)
            committed = frozenset(unit for unit in units if self.random.random() < 0.3)
            self.report(
                WorkerDied(worker=worker, reason="x", node_lost=draw < self.death_rate / 2, committed=committed)
            )
        else:
            self.alive[worker].pop(0)
            kind: Kind = "error" if self.random.random() < self.error_rate else "done"
            self.report(UnitEnded(worker=worker, unit=unit, kind=kind))
