"""Run a list of units on actors: execute the policy's actions and turn Ray's answers into its events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError

from ungan_dist.cluster.contact import Contact, is_node_alive
from ungan_dist.cluster.events import (
    Action,
    CompleteUnit,
    DriverLost,
    Event,
    KillWorker,
    Kind,
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
from ungan_dist.cluster.metrics import Metrics
from ungan_dist.cluster.policy import Limits, Policy
from ungan_dist.cluster.shipping import Packing
from ungan_dist.cluster.worker import PROGRESS_GROUP, UnitProgress, UnitResult, WorkerInfo
from ungan_dist.runs.progress import Event as Progress
from ungan_dist.runs.progress import ProgressCallback
from ungan_dist.runs.units import Done, Failed, Working

TICK_SECONDS = 1.0
"""Longest wait for an answer, after which deadlines and the silence are checked."""
POLL_SECONDS = 2.0
"""Least seconds between two queries of the progress within units."""
NUM_CHECKS = 16
"""Results that are looked for at once: in object storage, each takes tens of milliseconds."""
SILENCE_SECONDS = 30.0
"""Seconds without a finished unit or progress within one after which the reason is reported."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    kind: Literal["describe", "report_start", "run_unit", "get_progress"]
    worker: int
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class FleetContext:
    """Parts of the fleet that its dispatcher uses."""

    num_workers: int
    limits: Limits
    start_worker: Callable[[], Any]
    is_done: Callable[[Any], bool]
    on_progress: ProgressCallback
    metrics: Metrics
    contact: Contact
    packing: Packing


class Dispatcher:
    """Hold the state of one list of units: calls in flight, workers, failures."""

    def __init__(self, fleet: FleetContext, units: Sequence[Any], actors: Sequence[Any]) -> None:
        self._fleet = fleet
        self._units = {unit.id: unit for unit in units}
        self._policy = Policy(
            self._units, fleet.num_workers, fleet.limits, group_of=lambda unit: _get_group(self._units[unit])
        )
        self._actors: dict[int, Any] = dict(enumerate(actors))
        self._num_warm = len(actors)
        self._workers: dict[int, WorkerInfo] = {}
        self._calls: dict[Any, _Call] = {}
        self._start_times: dict[str, float] = {}
        self._kill_reasons: dict[int, str] = {}
        self._units_per_host: Counter[str] = Counter()
        self._tracebacks: dict[str, str] = {}
        """Of the latest failure of each unit."""
        self._last_poll = self._last_reason = time.monotonic()
        self._note_progress()
        self.loss = ""
        """Why the cluster is lost to this driver; empty while it is not."""
        self._received: list[UnitProgress] = []
        self._threads = ThreadPoolExecutor(NUM_CHECKS)
        self._is_there: dict[str, bool] = {}
        """Whether there is a result, for the units whose calls have just returned."""
        self._progress: dict[str, UnitProgress] = {}
        """Latest progress within each unit."""
        self._stop_reason = ""
        self._reported = ""

    def run(self) -> Iterator[Done | Failed | Working]:
        """Yield the outcome of each unit in the order in which they end, and the progress within units."""
        for number, actor in self._actors.items():
            self._calls[actor.describe.remote()] = _Call(kind="describe", worker=number)
        yield from self._execute(self._policy.start(len(self._actors)))
        while not self._policy.finished:
            if self._wait_for_head():
                yield from self._handle(DriverLost(reason=self.loss))
                break
            for event in self._receive_events():
                yield from self._handle(event)
            yield from self._handle(Tick())
            yield from self._take_progress()
            self._report_progress()
        if self._policy.stopped:
            for unit in list(self._units):
                yield self._fail(unit, self._stop_reason)

    def release(self) -> list[Any]:
        """Return the idle workers for the next list of units; kill those that have a unit or are starting."""
        self._threads.shutdown(wait=False)
        idle = ("get_progress", "describe")
        busy = {call.worker for call in self._calls.values() if call.kind not in idle}
        starting = {number for number in self._actors if number >= self._num_warm and number not in self._workers}
        for number in busy | starting:
            ray.kill(self._actors.pop(number))
        self._calls.clear()
        return list(self._actors.values())

    def _wait_for_head(self) -> str:
        """Wait while the head does not answer, because other calls to Ray would block; return why it is lost."""
        contact = self._fleet.contact
        if loss := contact.wait_for_answer():
            self.loss = loss
        elif not self._policy.num_ready and contact.is_given_up():
            self.loss = "the cluster has lost contact with this machine and gave up its work"
        return self.loss

    def _handle(self, event: Event) -> Iterator[Done | Failed]:
        before = self._policy.num_retries
        actions = self._policy.handle(event, time.monotonic())
        self._fleet.metrics.record_retries(self._policy.num_retries - before)
        yield from self._execute(actions)

    def _execute(self, actions: list[Action]) -> Iterator[Done | Failed]:
        for action in actions:
            match action:
                case StartWorker(worker=number):
                    actor = self._actors[number] = self._fleet.start_worker()
                    self._calls[actor.describe.remote()] = _Call(kind="describe", worker=number)
                case SubmitUnit(worker=number, unit=unit):
                    actor = self._actors[number]
                    start = actor.report_start.remote(unit)
                    self._calls[start] = _Call(kind="report_start", worker=number, unit=unit)
                    result = actor.run_unit.remote(self._fleet.packing.pack(self._units[unit]))
                    self._calls[result] = _Call(kind="run_unit", worker=number, unit=unit)
                case KillWorker(worker=number, reason=reason):
                    self._kill_reasons[number] = reason
                    ray.kill(self._actors[number])
                case ReleaseWorker(worker=number):
                    self._remove_worker(number)
                case CompleteUnit(unit=unit):
                    done = self._units.pop(unit)
                    self._tracebacks.pop(unit, None)
                    seconds = time.monotonic() - self._start_times.pop(unit, time.monotonic())
                    self._fleet.metrics.record_unit(done.num_models, seconds)
                    self._note_progress()
                    yield Done(unit=done)
                case QuarantineUnit(unit=unit, error=error, kind=kind):
                    self._fleet.metrics.record_quarantine()
                    yield self._fail(unit, error, kind)
                case StopFleet(reason=reason):
                    self._stop_reason = reason

    def _note_progress(self) -> None:
        """Note, also in the metrics, that a unit has ended or progressed, or that the list begins."""
        self._last_progress = time.monotonic()
        self._fleet.metrics.record_progress()

    def _take_progress(self) -> Iterator[Working]:
        """Yield the progress that is new, and query the workers again."""
        now = time.monotonic()
        for progress in self._received:
            if progress.unit in self._start_times and progress != self._progress.get(progress.unit):
                self._progress[progress.unit] = progress
                self._note_progress()
                yield Working(unit=self._units[progress.unit], models=progress.models, note=progress.note)
        self._received.clear()
        if now - self._last_poll < POLL_SECONDS:
            return
        self._last_poll = now
        queried = {call.worker for call in self._calls.values() if call.kind == "get_progress"}
        for _, unit, number in self._policy.list_running(now):
            if number not in queried and number in self._actors:
                call = _Call(kind="get_progress", worker=number, unit=unit)
                get_progress = self._actors[number].get_progress.options(concurrency_group=PROGRESS_GROUP)
                self._calls[get_progress.remote()] = call

    def _fail(self, unit: str, error: str, kind: Kind = "error") -> Failed:
        assert kind != "done"
        self._start_times.pop(unit, None)
        return Failed(unit=self._units.pop(unit), error=error, kind=kind, traceback=self._tracebacks.pop(unit, ""))

    def _receive_events(self) -> Iterator[Event]:
        """Wait for one tick at most, then yield events in the order of the calls: a unit starts before it ends."""
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=TICK_SECONDS)
        if ready:
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        answered = set(ready)
        received = [reference for reference in self._calls if reference in answered]
        self._look_for_results([self._calls[one].unit for one in received if self._calls[one].kind == "run_unit"])
        for reference in received:
            call = self._calls.pop(reference, None)
            if call is None:
                continue  # an earlier event removed the call with its dead worker
            try:
                answer = ray.get(reference)
            except RayTaskError as error:
                # raised before the execution: the unit or the worker's class could not be loaded
                self._tracebacks[call.unit] = str(error)
                reason = f"it could not be started on a worker: {str(error).strip().splitlines()[-1]}"
                yield UnitEnded(worker=call.worker, unit=call.unit, kind="error", error=reason)
            except RayError as error:
                yield self._receive_death(call, error)
            else:
                if isinstance(answer, UnitProgress):
                    self._received.append(answer)
                else:
                    yield self._receive_answer(call, answer)

    def _look_for_results(self, units: Sequence[str]) -> None:
        """Look for the results of units whose calls have returned, all at once."""
        self._is_there = {}
        if len(units) > 1:
            found = self._threads.map(lambda unit: self._fleet.is_done(self._units[unit]), units)
            self._is_there = dict(zip(units, found, strict=True))

    def _is_done(self, unit: str) -> bool:
        found = self._is_there.pop(unit, None)
        return self._fleet.is_done(self._units[unit]) if found is None else found

    def _receive_answer(self, call: _Call, answer: Any) -> Event:
        match answer:
            case WorkerInfo():
                self._workers[call.worker] = answer
                self._fleet.metrics.record_workers(len(self._workers))
                return WorkerReady(worker=call.worker)
            case UnitResult(kind=kind, error=error):
                self._tracebacks[call.unit] = answer.traceback
                worker = self._workers.get(call.worker)
                if worker:
                    self._units_per_host[worker.host] += 1
                    self._fleet.metrics.record_gpu_memory(worker.host, answer.gpu_memory_bytes)
                if kind == "done" and not self._is_done(call.unit):
                    kind = "error"
                    error = (
                        f"a worker on {worker.host if worker else 'a node'} committed {self._units[call.unit].title}, "
                        f"but the driver cannot see the result: --output must be a folder that all nodes share, or "
                        f"object storage (s3://…, gs://…)"
                    )
                return UnitEnded(worker=call.worker, unit=call.unit, kind=kind, error=error)
            case _:
                self._start_times[call.unit] = time.monotonic()
                return UnitStarted(worker=call.worker, unit=call.unit)

    def _receive_death(self, call: _Call, error: RayError) -> WorkerDied:
        worker = self._workers.get(call.worker)
        where = f" on {worker.host}" if worker else ""
        reason = self._kill_reasons.get(call.worker, f"{type(error).__name__}{where}: {error}")
        units = {other.unit for other in (call, *self._remove_worker(call.worker)) if other.kind == "run_unit"}
        return WorkerDied(
            worker=call.worker,
            reason=reason,
            node_lost=worker is not None and not is_node_alive(worker.node),
            # a call may have completed although it raised
            committed=frozenset(unit for unit in units if self._fleet.is_done(self._units[unit])),
        )

    def _remove_worker(self, worker: int) -> list[_Call]:
        """Kill a worker and return its calls in flight.

        The kill keeps an unreachable actor from returning with a unit that another worker has started.
        """
        ray.kill(self._actors.pop(worker))
        self._kill_reasons.pop(worker, None)
        self._workers.pop(worker, None)
        self._fleet.metrics.record_workers(len(self._workers))
        lost = [reference for reference, call in self._calls.items() if call.worker == worker]
        return [self._calls.pop(reference) for reference in lost]

    def _report_progress(self) -> None:
        """Report changes of workers and retries, and after a long silence its reason."""
        now = time.monotonic()
        notes = [", ".join(f"{host}: {count} units" for host, count in sorted(self._units_per_host.items()))]
        if self._policy.num_retries:
            notes.append(f"{self._policy.num_retries} retries")
        if now - max(self._last_progress, self._last_reason) > SILENCE_SECONDS:
            self._last_reason = now
            notes.append(self._explain_silence(now))
        notes = [note for note in notes if note]
        state = f"{self._policy.num_ready} {self._policy.num_retries} {len(notes)}"
        if state == self._reported:
            return
        self._reported = state
        self._fleet.on_progress(
            Progress(
                stage="workers",
                done=self._policy.num_ready,
                total=self._policy.num_workers,
                seconds=0.0,
                seconds_left=None,
                note="; ".join(notes),
            )
        )

    def _explain_silence(self, now: float) -> str:
        running = self._policy.list_running(now)
        if not self._policy.num_ready:
            if self._fleet.contact.is_lost():
                return "waiting for the cluster's head"
            free = ray.available_resources()
            return (
                f"waiting for a worker: {self._policy.num_workers} requested, the cluster has "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free"
            )
        if not running:
            return "waiting for a worker to start a unit"
        seconds, unit, number = running[0]
        host = self._workers[number].host if number in self._workers else "a node"
        deadline = self._policy.get_deadline(unit)
        limit = f", its deadline is {deadline:.0f} s" if deadline else ""
        return f"slowest: {self._units[unit].title} on {host} for {seconds:.0f} s{limit}"


def _get_group(unit: Any) -> str:
    """Name the group of units that take about equally long: one method, or equally large blocks of shadow models."""
    return f"{type(unit).__name__} {unit.num_models} {getattr(unit, 'method', '')}"
