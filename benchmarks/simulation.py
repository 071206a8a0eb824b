"""Simulate a fleet by discrete events: the policy is the real one, and everything else is a stated number.

The driver is one server. It takes all answers that have arrived, pays for each and for the look at all calls in flight,
and its actions take effect when it is done. A node takes its workers along when it is lost, and comes back later.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from ungan_dist.cluster.events import (
    Action,
    CompleteUnit,
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
from ungan_dist.cluster.policy import Limits, Policy

CALLS_PER_UNIT = 2
"""Calls in flight for each submitted unit: its start and its result."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Times and failures, in seconds."""

    unit_s: float
    """Length of a unit."""
    spread: float = 0.0
    """Relative standard deviation of the length."""
    start_s: float = 10.0
    """From the request of a worker until it is ready."""
    event_s: float = 0.001
    """Time of the driver for one answer."""
    wait_s_per_call: float = 0.0
    """Time of the driver for each call in flight, whenever it looks for answers."""
    checkpoint_s: float = 30.0
    """Work of a unit that its loss costs at most."""
    workers_per_node: int = 8
    losses_per_hour: float = 0.0
    """Losses of each node, as by the preemption of spot machines."""
    return_s: float = 300.0
    """Until a lost node is replaced."""
    notice_s: float = 5.0
    """Until a loss is noticed."""
    straggler_share: float = 0.0
    straggler_factor: float = 3.0
    tick_s: float = 1.0


@dataclass
class _Node:
    free: int
    is_up: bool = True


@dataclass
class _Slot:
    node: int
    ready: bool = False
    units: list[str] = field(default_factory=list)
    begun: float = 0.0
    attempt: int = 0


class FleetSimulation:
    """One fleet, from its first worker to its last unit."""

    def __init__(
        self,
        num_units: int,
        num_workers: int,
        world: World,
        *,
        num_warm: int = 0,
        seed: int = 0,
        lengths: Sequence[float] = (),
        kills: Sequence[float] = (),
    ) -> None:
        """Create a fleet.

        Args:
            num_units: units to compute.
            num_workers: most workers.
            world: times and failures.
            num_warm: workers that have started already.
            seed: of all draws.
            lengths: of each unit; defaults to draws.
            kills: times at which the process of a worker at work is killed; its node stays.
        """
        self._random = random.Random(seed)
        self._world = world
        self._policy = Policy((f"{unit}" for unit in range(num_units)), num_workers, Limits())
        num_nodes = -(-num_workers // world.workers_per_node)
        self._nodes = [_Node(free=world.workers_per_node) for _ in range(num_nodes)]
        self._slots: dict[int, _Slot] = {}
        self._pending: list[int] = []
        """Workers that wait for a place on a node."""
        self._events: list[tuple[float, int, str, object]] = []
        self._order = itertools.count()
        drawn = lengths or [self._draw_length() for _ in range(num_units)]
        self._left = {f"{unit}": drawn[unit] for unit in range(num_units)}
        self.work_s = sum(self._left.values())
        """Length of all units."""
        self.lost_s = 0.0
        """Work that was done in vain."""
        self.driver_s = 0.0
        self.num_done = 0
        self.num_lost_nodes = 0
        self._num_warm = num_warm
        self._kills = kills
        self.num_killed = 0
        self._num_calls = 0
        self.max_calls = 0
        self.stop_reason = ""

    def run(self) -> float:
        """Return the seconds until the last unit is done."""
        world, now = self._world, 0.0
        for number in range(self._num_warm):
            self._slots[number] = _Slot(node=self._take_place() or 0, ready=True)
        for node in range(len(self._nodes)):
            self._plan_loss(node, 0.0)
        for time in self._kills:
            self._push(time, "kill", None)
        self._push(world.tick_s, "tick", None)
        self._execute(self._policy.start(self._num_warm), 0.0)
        inbox: list[Event] = []
        while not self._policy.finished and self._events:
            now = max(now, self._events[0][0])
            while self._events and self._events[0][0] <= now:
                time, _, kind, what = heapq.heappop(self._events)
                inbox += self._happen(kind, what, time)
            if inbox:
                cost = 2 * world.wait_s_per_call * self._num_calls + world.event_s * len(inbox)
                self.driver_s += cost
                now += cost
                for event in inbox:
                    self._execute(self._policy.handle(event, now), now)
                inbox = []
        return now

    def _draw_length(self) -> float:
        world = self._world
        length = world.unit_s * max(0.1, self._random.gauss(1.0, world.spread)) if world.spread else world.unit_s
        return length * (world.straggler_factor if self._random.random() < world.straggler_share else 1.0)

    def _push(self, time: float, kind: str, what: object) -> None:
        heapq.heappush(self._events, (time, next(self._order), kind, what))

    def _plan_loss(self, node: int, now: float) -> None:
        if self._world.losses_per_hour:
            self._push(now + self._random.expovariate(self._world.losses_per_hour / 3600), "loss", node)

    def _happen(self, kind: str, what: object, now: float) -> list[Event]:
        """Let something happen, and return what the driver hears of it."""
        match kind, what:
            case "tick", _:
                self._push(now + self._world.tick_s, "tick", None)
                return [Tick()]
            case "ready", int(worker) if worker in self._slots:
                self._slots[worker].ready = True
                return [WorkerReady(worker=worker)]
            case "end", (int(worker), int(attempt)) if worker in self._slots and self._slots[worker].attempt == attempt:
                slot = self._slots[worker]
                unit = slot.units.pop(0)
                self._num_calls -= CALLS_PER_UNIT
                self.num_done += 1
                ended = UnitEnded(worker=worker, unit=unit, kind="done")
                return [ended, *self._begin(worker, now)]
            case "loss", int(node):
                return self._lose(node, now)
            case "kill", _:
                self._kill_one(now)
                return []
            case "return", int(node):
                self._nodes[node] = _Node(free=self._world.workers_per_node)
                self._plan_loss(node, now)
                self._place_pending(now)
                return []
            case "death", (int(worker), str(reason), bool(is_node)):
                return [WorkerDied(worker=worker, reason=reason, node_lost=is_node)]
            case _:
                return []

    def _begin(self, worker: int, now: float) -> list[Event]:
        """Begin the next unit of a worker."""
        slot = self._slots[worker]
        if not slot.units:
            return []
        slot.attempt, slot.begun = next(self._order), now
        self._push(now + self._left[slot.units[0]], "end", (worker, slot.attempt))
        return [UnitStarted(worker=worker, unit=slot.units[0])]

    def _lose(self, node: int, now: float) -> list[Event]:
        self.num_lost_nodes += 1
        self._nodes[node] = _Node(free=0, is_up=False)
        self._push(now + self._world.return_s, "return", node)
        for worker in [number for number, slot in self._slots.items() if slot.node == node]:
            self._remove(worker, now)
            self._push(now + self._world.notice_s, "death", (worker, "its node was lost", True))
        return []

    def _kill_one(self, now: float) -> None:
        for worker, slot in self._slots.items():
            if slot.ready and slot.units:
                self.num_killed += 1
                self._free_place(slot.node)
                self._remove(worker, now)
                self._push(now + self._world.notice_s, "death", (worker, "its process was killed", False))
                return

    def _remove(self, worker: int, now: float) -> None:
        slot = self._slots.pop(worker)
        if slot.units and slot.ready:
            spent = now - slot.begun
            kept = spent // self._world.checkpoint_s * self._world.checkpoint_s
            self._left[slot.units[0]] -= kept
            self.lost_s += spent - kept
        self._num_calls -= CALLS_PER_UNIT * len(slot.units)

    def _execute(self, actions: list[Action], now: float) -> None:
        for action in actions:
            match action:
                case StartWorker(worker=worker):
                    self._pending.append(worker)
                    self._place_pending(now)
                case SubmitUnit(worker=worker, unit=unit):
                    slot = self._slots.get(worker)
                    if slot is None:
                        continue  # its death is on its way to the driver
                    slot.units.append(unit)
                    self._num_calls += CALLS_PER_UNIT
                    self.max_calls = max(self.max_calls, self._num_calls)
                    if len(slot.units) == 1:
                        for event in self._begin(worker, now):
                            self._execute(self._policy.handle(event, now), now)
                case KillWorker(worker=worker, reason=reason) if worker in self._slots:
                    self._free_place(self._slots[worker].node)
                    self._remove(worker, now)
                    self._push(now + self._world.notice_s, "death", (worker, reason, False))
                case ReleaseWorker(worker=worker):
                    self._free_place(self._slots.pop(worker).node)
                case StopFleet(reason=reason):
                    self.stop_reason = reason
                case KillWorker() | CompleteUnit() | QuarantineUnit():
                    pass

    def _take_place(self) -> int | None:
        for number, node in enumerate(self._nodes):
            if node.free:
                node.free -= 1
                return number
        return None

    def _free_place(self, node: int) -> None:
        if self._nodes[node].is_up:
            self._nodes[node].free += 1

    def _place_pending(self, now: float) -> None:
        while self._pending and (node := self._take_place()) is not None:
            worker = self._pending.pop(0)
            self._slots[worker] = _Slot(node=node)
            self._push(now + self._world.start_s, "ready", worker)
