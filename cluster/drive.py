"""One pass over a list of units: carries out the policy's actions, turns what Ray answers into the policy's events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError

from ungan_dist.cluster.metrics import Metrics
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
    Stop,
    Submit,
    Tick,
)
from ungan_dist.cluster.worker import Hello, UnitResult
from ungan_dist.runs.progress import Event as Progress
from ungan_dist.runs.progress import ProgressCallback
from ungan_dist.runs.units import Done, Failed

BEAT_SECONDS = 1.0
"""How often overdue units and silence are looked for."""
SILENCE_SECONDS = 30.0
"""Without progress for so long, the reason is told."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    kind: Literal["hello", "begin", "work"]
    worker: int
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Crew:
    """What a pass needs of its fleet."""

    num_workers: int
    limits: Limits
    hire: Callable[[], Any]
    is_done: Callable[[Any], bool]
    on_progress: ProgressCallback
    metrics: Metrics


class Drive:
    """The state of one pass: calls in flight, workers, what went wrong."""

    def __init__(self, crew: Crew, units: Sequence[Any], actors: Sequence[Any]) -> None:
        self._crew = crew
        self._units = {unit.id: unit for unit in units}
        self._policy = Policy(
            self._units, crew.num_workers, crew.limits, kind_of=lambda unit: _kind_of(self._units[unit])
        )
        self._actors: dict[int, Any] = dict(enumerate(actors))
        self._hellos: dict[int, Hello] = {}
        self._calls: dict[Any, _Call] = {}
        self._starts: dict[str, float] = {}
        self._kill_reasons: dict[int, str] = {}
        self._per_host: Counter[str] = Counter()
        self._last_progress = time.monotonic()
        self._stop_reason = ""
        self._told = ""

    def outcomes(self) -> Iterator[Done | Failed]:
        """What became of each unit, in the order in which they end."""
        for number, actor in self._actors.items():
            self._calls[actor.hello.remote()] = _Call(kind="hello", worker=number)
        yield from self._perform(self._policy.start(len(self._actors)))
        while not self._policy.finished:
            for event in self._events():
                yield from self._handle(event)
            yield from self._handle(Tick())
            self._say()
        if self._policy.stopped:
            for unit in list(self._units):
                yield self._failed(unit, self._stop_reason)

    def release(self) -> list[Any]:
        """The workers that are up and idle, for another pass; the others are ended."""
        for number in {call.worker for call in self._calls.values()}:
            ray.kill(self._actors.pop(number))
        self._calls.clear()
        return list(self._actors.values())

    def _handle(self, event: Event) -> Iterator[Done | Failed]:
        before = self._policy.num_retries
        actions = self._policy.on(event, time.monotonic())
        self._crew.metrics.retried(self._policy.num_retries - before)
        yield from self._perform(actions)

    def _perform(self, actions: list[Action]) -> Iterator[Done | Failed]:
        for action in actions:
            match action:
                case Hire(worker=number):
                    actor = self._actors[number] = self._crew.hire()
                    self._calls[actor.hello.remote()] = _Call(kind="hello", worker=number)
                case Submit(worker=number, unit=unit):
                    actor = self._actors[number]
                    self._calls[actor.begin.remote(unit)] = _Call(kind="begin", worker=number, unit=unit)
                    self._calls[actor.work.remote(self._units[unit])] = _Call(kind="work", worker=number, unit=unit)
                case Kill(worker=number, reason=reason):
                    self._kill_reasons[number] = reason
                    ray.kill(self._actors[number])
                case Dismiss(worker=number):
                    self._forget(number)
                case Complete(unit=unit):
                    done = self._units.pop(unit)
                    seconds = time.monotonic() - self._starts.pop(unit, time.monotonic())
                    self._crew.metrics.done(done.num_models, seconds)
                    self._last_progress = time.monotonic()
                    yield Done(unit=done)
                case Quarantine(unit=unit, error=error, kind=kind):
                    self._crew.metrics.quarantined()
                    yield self._failed(unit, error, kind)
                case Stop(reason=reason):
                    self._stop_reason = reason

    def _failed(self, unit: str, error: str, kind: Kind = "error") -> Failed:
        assert kind != "done"
        self._starts.pop(unit, None)
        return Failed(unit=self._units.pop(unit), error=error, kind=kind)

    def _events(self) -> Iterator[Event]:
        """Waits a beat at most; then everything that has come in, as it was called: a unit begins before it ends."""
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=BEAT_SECONDS)
        if ready:
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        come_in = set(ready)
        for reference in [reference for reference in self._calls if reference in come_in]:
            call = self._calls.pop(reference, None)
            if call is None:
                continue  # its worker's death has been seen by another of its calls
            try:
                answer = ray.get(reference)
            except RayTaskError as error:
                # raised outside the unit's own execution: the unit could not even be read, or its class not be built
                yield Ended(worker=call.worker, unit=call.unit, kind="error", error=str(error))
            except RayError as error:
                yield self._death(call, error)
            else:
                yield self._answer(call, answer)

    def _answer(self, call: _Call, answer: Any) -> Event:
        match answer:
            case Hello():
                self._hellos[call.worker] = answer
                self._crew.metrics.workers(len(self._hellos))
                return Joined(worker=call.worker)
            case UnitResult(kind=kind, error=error):
                hello = self._hellos.get(call.worker)
                if hello:
                    self._per_host[hello.host] += 1
                    self._crew.metrics.gpu_memory(hello.host, answer.gpu_memory_bytes)
                if kind == "done" and not self._crew.is_done(self._units[call.unit]):
                    error = (
                        f"a worker on {hello.host if hello else 'a node'} says that it has committed "
                        f"{self._name(call.unit)}, but the driver does not see it: --output must be a folder that "
                        f"all nodes share, or an object store (s3://…, gs://…)"
                    )
                    return Ended(worker=call.worker, unit=call.unit, kind="error", error=error)
                return Ended(worker=call.worker, unit=call.unit, kind=kind, error=error)
            case _:
                self._starts[call.unit] = time.monotonic()
                return Started(worker=call.worker, unit=call.unit)

    def _death(self, call: _Call, error: RayError) -> Died:
        hello = self._hellos.get(call.worker)
        where = f" on {hello.host}" if hello else ""
        reason = self._kill_reasons.get(call.worker, f"{type(error).__name__}{where}: {error}")
        units = {other.unit for other in (call, *self._forget(call.worker)) if other.kind == "work"}
        return Died(
            worker=call.worker,
            reason=reason,
            node_lost=hello is not None and not _is_alive(hello.node),
            # a call may have run to its end although it raised
            committed=frozenset(unit for unit in units if self._crew.is_done(self._units[unit])),
        )

    def _forget(self, worker: int) -> list[_Call]:
        """Ends a worker and returns its calls that were in flight.

        An actor that is merely out of reach must not come back with a unit that another has begun.
        """
        ray.kill(self._actors.pop(worker))
        self._kill_reasons.pop(worker, None)
        self._hellos.pop(worker, None)
        self._crew.metrics.workers(len(self._hellos))
        lost = [reference for reference, call in self._calls.items() if call.worker == worker]
        return [self._calls.pop(reference) for reference in lost]

    def _say(self) -> None:
        """Workers per node and retries when they change; after a long silence, what everything waits for."""
        now = time.monotonic()
        nodes = ", ".join(f"{host}: {count} units" for host, count in sorted(self._per_host.items()))
        facts = [nodes] if nodes else []
        if self._policy.num_retries:
            facts.append(f"{self._policy.num_retries} calls made again")
        if now - self._last_progress > SILENCE_SECONDS:
            self._last_progress = now
            facts.append(self._why_silent(now))
        state = f"{self._policy.num_up} {self._policy.num_retries} {len(facts)}"
        if state == self._told:
            return
        self._told = state
        up, wanted = self._policy.num_up, self._policy.num_wanted
        self._crew.on_progress(
            Progress(stage="workers", done=up, total=wanted, seconds=0.0, seconds_left=None, note="; ".join(facts))
        )

    def _why_silent(self, now: float) -> str:
        running = self._policy.running(now)
        if not self._policy.num_up:
            free = ray.available_resources()
            return (
                f"waiting for a worker: {self._policy.num_wanted} asked for, the cluster has "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free"
            )
        if not running:
            return "waiting for a worker to report its start"
        seconds, unit, number = running[0]
        host = self._hellos[number].host if number in self._hellos else "a node"
        deadline = self._policy.deadline(unit)
        limit = f", its deadline is {deadline:.0f} s" if deadline else ""
        return f"slowest: {self._name(unit)} on {host} for {seconds:.0f} s{limit}"

    def _name(self, unit: str) -> str:
        return self._units[unit].title


def _kind_of(unit: Any) -> str:
    """Units of a kind take about as long as each other: one method's, or blocks of as many shadow models."""
    return f"{type(unit).__name__} {unit.num_models} {getattr(unit, 'method', '')}"


def _is_alive(node: str) -> bool:
    return any(other["NodeID"] == node and other["Alive"] for other in ray.nodes())
