"""Execute units in spawned processes of this machine: one per GPU, or per core with one torch thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

import torch

from ungan_dist.runs.units import Done, Failed, Unit, execute

MAX_DEATHS = 3
"""Deaths of its process after which a unit is given up."""


def num_processes(asked: int | None) -> int:
    """Return the size of a pool: as asked, else one process per GPU, else one per core."""
    return asked or torch.cuda.device_count() or os.cpu_count() or 1


class LocalPool:
    """Processes that live as long as the ``with`` block and start with the first units."""

    def __init__(self, asked: int | None = None) -> None:
        self._num_processes = num_processes(asked)
        self._workers: list[_Worker] = []

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()

    def run_units(self, units: Sequence[Unit]) -> Iterator[Done | Failed]:
        """Run units and yield their outcomes as they end.

        A process that dies is replaced, and its unit is tried up to ``MAX_DEATHS`` times in all.
        """
        waiting = deque(units)
        deaths: dict[str, int] = {}
        while len(self._workers) < min(self._num_processes, len(units)):
            self._workers.append(_Worker(len(self._workers)))
        while waiting or any(worker.unit for worker in self._workers):
            for worker in self._workers:
                if worker.unit is None and waiting:
                    worker.start(waiting.popleft())
            by_connection = {worker.connection: worker for worker in self._workers if worker.unit}
            for connection in wait(list(by_connection)):
                worker = by_connection[connection]  # pyright: ignore[reportArgumentType]
                unit, outcome = worker.unit, worker.receive()
                assert unit is not None
                if outcome is not None:
                    yield outcome
                    continue
                self._workers[worker.slot] = _Worker(worker.slot)
                deaths[unit.id] = deaths.get(unit.id, 0) + 1
                if deaths[unit.id] < MAX_DEATHS:
                    waiting.append(unit)
                else:
                    yield Failed(unit=unit, error=f"the process at work on {unit.title} {worker.end()}")


class _Worker:
    """One process, its pipe, and its current unit."""

    def __init__(self, slot: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.slot = slot
        self.unit: Unit | None = None
        self._last_error = ""
        self.connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(theirs, slot), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, unit: Unit) -> None:
        self.unit = unit
        # receive() notices a process that died while idle
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(unit)

    def receive(self) -> Done | Failed | None:
        """Return the unit's outcome, or ``None`` if the process died."""
        self.unit = None
        try:
            outcome = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        if isinstance(outcome, str):
            self._last_error = outcome
            return None
        return outcome

    def end(self) -> str:
        """Describe how the process died."""
        self._process.join()
        code = self._process.exitcode
        why = " (killed, often for memory)" if code == -signal.SIGKILL else ""
        words = f": {self._last_error}" if self._last_error else ""
        return f"died {MAX_DEATHS} times, last with exit code {code}{why}{words}"

    def stop(self) -> None:
        """Kill the process; the next run computes what was not committed."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection, slot: int) -> None:
    """Receive units and send outcomes until the driver ends."""
    # Ctrl-C reaches every process of the terminal; only the driver handles it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_driver, daemon=True).start()
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    while True:
        try:
            unit = connection.recv()
            connection.send(execute(unit))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except BaseException as error:  # an unreadable unit, or user code that exits
            with contextlib.suppress(OSError):
                connection.send(f"{type(error).__name__}: {error}")
            raise


def _die_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    wait([driver.sentinel])
    os._exit(1)
