"""Time one shadow model on a few real examples, in one worker, for a limited time."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import Source
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.shadows import Shadows, ShadowUnit, evaluate_shadows, train_shadows
from ungan_dist.training.optimizers import import_compiler
from ungan_dist.training.weights import weights_bytes
from ungan_dist.training.world import SINGLE_PROCESS, World
from ungan_dist.worker_process import Note, WorkerProcess

MAX_BATCHES = 16
"""Batches in the probe's examples; half of them train, as in a real shadow model."""
MAX_BYTES = 128 * 2**20
"""Most bytes of pixels in the probe's examples."""
FIRST_EXAMPLES = 8
"""Examples of the first pass, half of which train."""
GROWTH = 4
"""Growth of a pass's examples over the last pass's, up to all examples of the probe."""
START_S = 300.0
"""Longest time for starting the process and preparing the examples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Everything a worker needs to time a shadow model; it carries its own examples."""

    unit: ShadowUnit
    """The run's first shadow unit, on the probe's examples."""
    source: Source
    seconds: float
    """Time limit; the start of the process and the preparation of the examples do not count."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Rates from the largest pass that ended in time."""

    train_seconds: float
    """Training time per example, epoch and model."""
    query_seconds: float
    """Time to query one example, all views."""
    weights_bytes: int
    """Size of one model's file."""
    num_examples: int
    """Training examples of the pass."""
    batch_size: int
    epochs: int
    is_cold: bool
    """No other pass ran before it, so its time includes compilation and allocation."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a probe measured."""

    alone: Timing
    """A model that is trained alone, step by step."""
    by_engine: Timing | None = None
    """Shadow models with the engine of the run; ``None`` if that is ``serial``, or was not timed."""
    together: Timing | None = None
    """A model that all data-parallel processes train; ``None`` without them."""
    memory_bytes: int
    """Peak host memory of the worker."""
    device_memory_bytes: int
    """Peak GPU memory of the worker."""
    elapsed_seconds: float
    """Duration of the probe in the worker, without its start."""

    @property
    def shadow_seconds(self) -> float:
        """Training time per example, epoch and shadow model."""
        return (self.by_engine or self.alone).train_seconds


def make_probe(plan: Plan, seconds: float) -> Probe:
    """Cut a run's first shadow unit down to a few batches of its data."""
    unit, source = plan.shadows[0], plan.source
    fit = max(FIRST_EXAMPLES, MAX_BYTES // int(source.images[0].nbytes))
    num_examples = min(len(unit.pool), MAX_BATCHES * unit.train.batch_size, fit) // 2 * 2
    chosen = unit.pool[:num_examples]
    few = dataclasses.replace(
        source,
        images=source.images[chosen],
        labels=source.labels[chosen],
        test=None,
        ids=None,
        jpegs=tuple(source.jpegs[index] for index in chosen) if source.jpegs else (),
    )
    unit = dataclasses.replace(unit, pool=np.arange(num_examples), num_surplus=0)
    return Probe(unit=unit, source=few, seconds=seconds)


def run_probe(probe: Probe) -> Measurement | None:
    """Run a probe in a new process of this machine, and end the process at the time limit.

    Returns:
        The last measurement, or ``None`` if not one pass ended in time.

    Raises:
        WorkerDied: the process died.
        CallFailed: training or querying raised.
        TimeoutError: the process did not start.
    """
    worker, found = WorkerProcess(), None
    with tempfile.TemporaryDirectory(prefix="ungan-dist-plan-") as folder:
        try:
            worker.call(_measure, probe, Path(folder), with_notes=True)
            deadline, is_ready = time.monotonic() + START_S, False
            while worker.connection.poll(max(0.0, deadline - time.monotonic())):
                answer = worker.receive()
                if not isinstance(answer, Note):
                    return answer
                if is_ready:
                    found = answer.content
                else:
                    deadline, is_ready = time.monotonic() + probe.seconds, True
        finally:
            worker.stop()
    if not is_ready:
        raise TimeoutError
    return None if found is None else dataclasses.replace(found, elapsed_seconds=probe.seconds)


def _measure(probe: Probe, folder: Path, send_note: Callable[[object], None]) -> Measurement:
    torch.set_num_threads(1)
    tempfile.tempdir = str(folder)  # a killed process removes no files
    import_compiler(probe.unit.code)
    unit = prepare_unit(probe, folder)
    send_note("ready")
    return measure(unit, probe.seconds, send_note)


def prepare_unit(probe: Probe, folder: Path) -> ShadowUnit:
    """Prepare the probe's examples in a folder, and return the unit on them."""
    prepare(probe.source, folder, loader=probe.unit.prepared.loader)
    prepared = dataclasses.replace(probe.unit.prepared, output=str(folder), data_hash=probe.source.content_hash)
    return dataclasses.replace(probe.unit, prepared=prepared)


def measure(unit: ShadowUnit, seconds: float, on_pass: Callable[[Measurement], object] = lambda _: None) -> Measurement:
    """Train and query models for some seconds; a pass that would end later is not begun.

    Args:
        unit: From :func:`prepare_unit`.
        seconds: Time limit.
        on_pass: Called after each pass with what is known so far.
    """
    start = time.perf_counter()

    def measurement(alone: Timing, by_engine: Timing | None = None) -> Measurement:
        return Measurement(
            alone=alone,
            by_engine=by_engine,
            memory_bytes=_peak_memory(),
            device_memory_bytes=torch.cuda.max_memory_allocated() if unit.device == "cuda" else 0,
            elapsed_seconds=time.perf_counter() - start,
        )

    is_serial = unit.engine == "serial"
    single = dataclasses.replace(unit, engine="serial", shadows=unit.shadows[:1])
    alone = _time_unit(
        single, start + (seconds if is_serial else seconds / 2), lambda timing: on_pass(measurement(timing))
    )
    if is_serial:
        return measurement(alone)
    by_engine = _time_unit(unit, start + seconds, lambda timing: on_pass(measurement(alone, timing)))
    return measurement(alone, by_engine)


def measure_together(unit: ShadowUnit, seconds: float, world: World) -> Timing:
    """Time one model that all processes of a world train; each of them calls this, and rank 0 decides when to stop."""
    single = dataclasses.replace(unit, engine="serial", shadows=unit.shadows[:1])
    return _time_unit(single, time.perf_counter() + seconds, lambda _: None, world)


def _time_unit(
    unit: ShadowUnit, deadline: float, on_pass: Callable[[Timing], object], world: World = SINGLE_PROCESS
) -> Timing:
    """Time passes over more and more examples, then of 1, 2, 4 … epochs, while the next one would end in time.

    The first pass compiles and allocates. It is repeated while any time is left, and counts only if the caller ends the
    process before. The difference of the last two passes over all examples is free of the cost of starting a pass.
    """
    number, epochs, shorter, is_cold = min(FIRST_EXAMPLES, len(unit.pool)), 1, None, True
    while True:
        training, querying, num_bytes = _time_pass(dataclasses.replace(unit, pool=unit.pool[:number]), epochs, world)
        epoch_seconds = training / epochs
        if shorter is not None and training > shorter:
            epoch_seconds = (training - shorter) / (epochs / 2)
        timing = Timing(
            train_seconds=epoch_seconds / (number / 2 * unit.num_models),
            query_seconds=querying / (number * unit.num_models),
            weights_bytes=num_bytes,
            num_examples=number // 2,
            batch_size=min(unit.train.batch_size, number // 2),
            epochs=epochs,
            is_cold=is_cold,
        )
        on_pass(timing)
        spent, before = training + querying, number * epochs
        if is_cold:
            is_cold, spent = False, 0.0
        elif number < len(unit.pool):
            number = min(GROWTH * number, len(unit.pool))
        elif unit.train.function is not None:  # its epochs are unknown
            return timing
        else:
            epochs, shorter = 2 * epochs, training
        if world.broadcast(time.perf_counter() + spent * (number * epochs / before) > deadline):
            return timing


def _time_pass(unit: ShadowUnit, epochs: int, world: World) -> tuple[float, float, int]:
    """Train and query once; return the seconds of each, and the size of a model's file."""
    world.synchronize()
    start = time.perf_counter()
    trained = _train(unit, epochs, world)
    trained_at = time.perf_counter()
    evaluate_shadows(unit, trained)
    return trained_at - start, time.perf_counter() - trained_at, len(weights_bytes(trained.models[0]))


def _train(unit: ShadowUnit, epochs: int, world: World) -> Shadows:
    trained = train_shadows(dataclasses.replace(unit, train=dataclasses.replace(unit.train, epochs=epochs)), world)
    if unit.device == "cuda":
        torch.cuda.synchronize()
    return trained


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
