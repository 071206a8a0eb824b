"""Time the engines on a few real examples, each in a process of its own."""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ungan_dist.config.training import TOGETHER
from ungan_dist.runs.forecast.probe import START_S, Probe, prepare_unit
from ungan_dist.runs.machine_cache import read_cached, write_cached
from ungan_dist.runs.operations import describe_gpu
from ungan_dist.runs.shadows import ShadowUnit, train_shadows
from ungan_dist.runs.versions import versions
from ungan_dist.training.optimizers import import_compiler
from ungan_dist.worker_process import CallFailed, WorkerDied, WorkerProcess

EPOCHS = 2
REPEATS = 3
"""Trainings of each engine that are timed, after one that captures and compiles."""
LIMIT_S = 60.0
"""Seconds for each engine."""


@dataclass(frozen=True, kw_only=True)
class EngineTask:
    """Engines to measure on the device of a worker; can be sent to it."""

    probe: Probe
    engines: tuple[str, ...]
    unit_size: int
    """Models that are trained at once by the engines that do so."""
    data_bytes: int
    """Pixels of the whole data set."""


@dataclass(frozen=True, kw_only=True)
class EngineTiming:
    """What one engine needs, or why it cannot be used."""

    engine: str
    seconds: float | None = None
    """Training time per model and epoch of the probe's examples."""
    reason: str = ""
    """Why it cannot be used; empty if it can."""
    difference: float = 0.0
    """Relative difference of the first model's weights to those of ``serial``."""
    memory_bytes: int = 0
    """Peak memory of a unit on the GPU, with the whole data set; 0 on a CPU."""
    free_bytes: int = 0
    """Free memory of the GPU before."""
    cores_per_gpu: int = 0
    """Cores of the worker's machine for each GPU that the worker sees; 0 on a CPU."""


def measure_in_process(task: EngineTask) -> list[EngineTiming]:
    """Measure engines in a process of its own, with a limit for each; a crash or a hang is a reason against one."""
    timings: list[EngineTiming] = []
    with tempfile.TemporaryDirectory(prefix="ungan-dist-engine-") as folder:
        for engine in task.engines:
            worker = WorkerProcess()
            try:
                worker.call(_measure_alone, dataclasses.replace(task, engines=(engine,)), Path(folder))
                if not worker.connection.poll(START_S + LIMIT_S):
                    raise TimeoutError(f"no answer in {START_S + LIMIT_S:.0f} s")
                timings += worker.receive()
            except (WorkerDied, CallFailed, TimeoutError) as error:
                timings.append(EngineTiming(engine=engine, reason=" ".join(str(error).split())[:200]))
            finally:
                worker.stop()
    return timings


def _measure_alone(task: EngineTask, folder: Path) -> list[EngineTiming]:
    torch.set_num_threads(1)
    tempfile.tempdir = str(folder)  # a killed process removes no files
    import_compiler(task.probe.unit.code)
    key = _make_key(task)
    known = _read_cached(key)
    if known is None:
        known = measure_engines(task, folder)
        if all(one.seconds is not None for one in known):  # what stopped an engine may be mended
            write_cached("engines", key, [dataclasses.asdict(one) for one in known])
    return known


def measure_engines(task: EngineTask, folder: Path) -> list[EngineTiming]:
    """Measure engines in this process, one after the other.

    Args:
        task: The engines, and what they train.
        folder: An empty folder for the examples.
    """
    unit = prepare_unit(task.probe, folder)
    unit = dataclasses.replace(unit, train=dataclasses.replace(unit.train, epochs=EPOCHS))
    pair = dataclasses.replace(unit, engine="serial", shadows=unit.shadows[:2])
    expected = list(train_shadows(pair).models[0].state_dict().values())
    size = {True: task.unit_size, False: 2}
    return [
        _time_engine(
            dataclasses.replace(unit, engine=engine, shadows=tuple(range(size[engine in TOGETHER]))),
            expected,
            task.data_bytes - int(task.probe.source.images.nbytes),
        )
        for engine in task.engines
    ]


def _time_engine(unit: ShadowUnit, expected: Sequence[Tensor], more_bytes: int) -> EngineTiming:
    is_cuda = unit.device == "cuda"
    free = torch.cuda.mem_get_info()[0] if is_cuda else 0
    try:
        weights = list(train_shadows(unit).models[0].state_dict().values())
        difference = _difference(weights, expected)
        seconds = [_time(unit) for _ in range(REPEATS)]
    except Exception as error:  # whatever stops an engine is a reason against it
        return EngineTiming(engine=unit.engine, reason=" ".join(str(error).split()) or type(error).__name__)
    return EngineTiming(
        engine=unit.engine,
        seconds=statistics.median(seconds) / (len(unit.shadows) * EPOCHS),
        difference=difference,
        memory_bytes=torch.cuda.max_memory_reserved() + more_bytes if is_cuda else 0,
        free_bytes=free,
        cores_per_gpu=max(1, (os.cpu_count() or 1) // torch.cuda.device_count()) if is_cuda else 0,
    )


def _time(unit: ShadowUnit) -> float:
    start = time.perf_counter()
    train_shadows(unit)
    if unit.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _difference(weights: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the relative difference in norm; infinite if a weight is not a number."""
    ours, theirs = (torch.cat([value.double().flatten() for value in some]) for some in (weights, expected))
    found = float((ours - theirs).norm() / theirs.norm())
    return found if found == found else float("inf")


def _make_key(task: EngineTask) -> dict[str, Any]:
    """Return everything that a measurement depends on, as plain data."""
    unit = task.probe.unit
    return {
        "engines": list(task.engines),
        "unit_size": task.unit_size,
        "data_bytes": task.data_bytes,
        "model": dataclasses.asdict(unit.model),
        "train": dataclasses.asdict(unit.train),
        "images": list(task.probe.source.images.shape),
        "fused": list(unit.fused),
        "loader": unit.prepared.loader,
        "device": describe_gpu() if unit.device == "cuda" else "cpu",
        "versions": versions(),
    }


def _read_cached(key: dict[str, Any]) -> list[EngineTiming] | None:
    if key["model"]["factory"] is not None:  # its code may have changed
        return None
    try:
        return [EngineTiming(**one) for one in read_cached("engines", key) or ()] or None
    except TypeError:  # of another version
        return None
