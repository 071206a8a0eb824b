"""Probes side by side on this machine, as many as a run has processes: each feels the others' pull on memory."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

import torch

from ungan_dist.errors import ConfigError
from ungan_dist.runs.forecast.probe import Cost, ProbeUnit, execute
from ungan_dist.runs.units import Done, Failed


def run_probes(units: Sequence[ProbeUnit]) -> tuple[list[Done | Failed], Cost]:
    """Runs every probe in a process of its own, all at once.

    Returns:
        What became of each, and what a process needs until it can work (the mean).
    """
    context = multiprocessing.get_context("spawn")
    began = time.monotonic()
    workers = []
    for slot, unit in enumerate(units):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, slot), daemon=True)
        process.start()
        theirs.close()
        workers.append((process, ours, unit))
    outcomes: list[Done | Failed] = []
    try:
        # all are up before one begins, so that each is measured beside the others
        ready = [ours.recv() for _, ours, _ in workers]
        for _, ours, unit in workers:
            ours.send(unit)
        waiting = {ours: unit for _, ours, unit in workers}
        while waiting:
            for ours in wait(list(waiting)):
                assert isinstance(ours, Connection)
                outcomes.append(_receive(ours, waiting.pop(ours)))
    except (EOFError, ConnectionResetError) as error:
        raise ConfigError("a worker's process died before it could work: see `ungan-dist doctor`") from error
    finally:
        for process, ours, _ in workers:
            process.kill()
            process.join()
            ours.close()
    seconds = sum(when - began for when, _ in ready) / len(ready)
    return outcomes, Cost(seconds, sum(spent for _, spent in ready) / len(ready))


def _receive(connection: Connection, unit: ProbeUnit) -> Done | Failed:
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        return Failed(unit=unit, error="its process died (often for memory)")


def _serve(connection: Connection, slot: int) -> None:
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(slot % torch.cuda.device_count())
    connection.send((time.monotonic(), time.process_time()))
    connection.send(execute(connection.recv()))
