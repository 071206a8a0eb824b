"""Execute units in processes of this machine: one or several per GPU, or one per core with one torch thread each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from types import TracebackType

import torch

from ungan_dist.errors import Unfinished
from ungan_dist.runs.placement import find_next, is_timed_alone
from ungan_dist.runs.units import Done, Failed, Unit, Working, execute
from ungan_dist.worker_process import KILLED_FROM_OUTSIDE, CallFailed, Note, WorkerDied, WorkerProcess

MAX_DEATHS = 3
"""Deaths of its process after which a unit is given up."""


def num_processes(asked: int | None, units_per_gpu: int = 1) -> int:
    """Return the size of a pool: as asked, else one process for each unit that the GPUs take, else one per core."""
    return asked or units_per_gpu * torch.cuda.device_count() or os.cpu_count() or 1


class LocalPool:
    """Processes that live as long as the ``with`` block and start with the first units.

    Processes take turns on the machine's GPUs. A target has its GPU for itself, because its time is reported.
    """

    def __init__(
        self,
        asked: int | None = None,
        *,
        num_gpus: int | None = None,
        is_alone: Callable[[Unit], bool] = is_timed_alone,
    ) -> None:
        """Create a pool without starting it.

        Args:
            asked: Number of processes; see ``num_processes``.
            num_gpus: GPUs that the processes share; defaults to those of this machine.
            is_alone: Whether a unit needs its GPU for itself.
        """
        self._num_processes = num_processes(asked)
        self._num_gpus = torch.cuda.device_count() if num_gpus is None else num_gpus
        self._is_alone = is_alone
        self._workers: list[_Worker] = []

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def run_units(self, units: Sequence[Unit]) -> Iterator[Done | Failed | Working]:
        """Run units and yield their outcomes as they end, and the progress within them.

        A process that dies is replaced, and its unit is tried up to ``MAX_DEATHS`` times in all.

        Raises:
            Unfinished: The processes die before they have started.
        """
        waiting = deque(units)
        exits: dict[str, list[int]] = {}
        failed_starts = 0
        while len(self._workers) < min(self._num_processes, len(units)):
            self._workers.append(_Worker(len(self._workers)))
        while waiting or any(worker.unit for worker in self._workers):
            for worker in self._workers:
                place = find_next(waiting, self._find_neighbours(worker), self._is_alone)
                if worker.unit is None and place is not None:
                    worker.start(waiting[place])
                    del waiting[place]
            by_connection = {worker.connection: worker for worker in self._workers if worker.unit}
            for connection in wait(list(by_connection)):
                worker = by_connection[connection]  # pyright: ignore[reportArgumentType]
                unit = worker.unit
                assert unit is not None
                try:
                    outcome = worker.receive_outcome()
                    failed_starts = 0
                    if outcome is not None:
                        yield outcome
                except CallFailed as error:  # while the unit was loaded
                    worker.unit = None
                    words = f"the unit cannot be loaded in a worker process: {error}"
                    yield Failed(unit=unit, error=words, traceback=error.traceback)
                except WorkerDied as error:
                    self._workers[worker.slot] = _Worker(worker.slot)
                    if not worker.ready:
                        failed_starts += 1
                        if failed_starts == MAX_DEATHS:
                            raise Unfinished(
                                f"{MAX_DEATHS} worker processes in a row died at their start, the last time {error}: "
                                f"see ungan-dist doctor, then run the same command again"
                            ) from error
                        waiting.append(unit)
                        continue
                    exits.setdefault(unit.id, []).append(error.code)
                    if len(exits[unit.id]) < MAX_DEATHS:
                        waiting.append(unit)
                    else:
                        # a crash that repeats is the code's; a kill comes from outside
                        repeats = len(set(exits[unit.id])) == 1 and -error.code not in KILLED_FROM_OUTSIDE
                        words = f"its process died {MAX_DEATHS} times, the last time {error}"
                        yield Failed(unit=unit, error=words, kind="failed" if repeats else "error")

    def _find_neighbours(self, worker: _Worker) -> list[Unit]:
        """Return the units that run on the GPU of a worker; none if there is no GPU."""
        if not self._num_gpus:
            return []
        on_gpu = (one for one in self._workers if one.slot % self._num_gpus == worker.slot % self._num_gpus)
        return [one.unit for one in on_gpu if one.unit is not None]


class _Worker(WorkerProcess):
    """A process and its current unit."""

    def __init__(self, slot: int) -> None:
        super().__init__()
        self.slot = slot
        self.unit: Unit | None = None
        self.ready = False
        self.call(_prepare, slot)

    def start(self, unit: Unit) -> None:
        self.unit = unit
        self.call(_execute, unit, with_notes=True)

    def receive_outcome(self) -> Done | Failed | Working | None:
        """Return the outcome of the unit or the progress within it, or ``None`` when the process has started."""
        answer = self.receive()
        if not self.ready:
            self.ready = True
            return None
        if isinstance(answer, Note):
            models, note = answer.content
            return Working(unit=self.unit, models=models, note=note)
        self.unit = None
        return answer


def _execute(unit: Unit, send_note: Callable[[object], None]) -> Done | Failed:
    return execute(unit, lambda models, note: send_note((models, note)))


def _prepare(slot: int) -> None:
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
