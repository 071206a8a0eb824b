"""Time one shadow model on a few real examples, in one worker."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import Source
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.shadows import Shadows, ShadowUnit, evaluate_shadows, train_shadows
from ungan_dist.training.weights import weights_bytes
from ungan_dist.worker_process import run_in_process

MAX_BATCHES = 16
"""Batches in the probe's examples; half of them train, as in a real shadow model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Everything a worker needs to time a shadow model; it carries its own examples."""

    unit: ShadowUnit
    """The run's first shadow unit, on the probe's examples."""
    source: Source
    seconds: float
    """Time limit after the warm-up; one pass through the examples is always timed."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Rates and sizes that a probe measured."""

    shadow_seconds: float
    """Training time per example, epoch and shadow model."""
    target_seconds: float
    """Training time per example and epoch of a model that is trained alone."""
    query_seconds: float
    """Time to query one example, all views."""
    weights_bytes: int
    """Size of one model's file."""
    memory_bytes: int
    """Peak host memory of the worker."""
    device_memory_bytes: int
    """Peak GPU memory of the worker."""
    elapsed_seconds: float
    """Duration of the probe in the worker."""


def make_probe(plan: Plan, seconds: float) -> Probe:
    """Cut a run's first shadow unit down to a few batches of its data."""
    unit, source = plan.shadows[0], plan.source
    num_examples = min(len(unit.pool), MAX_BATCHES * unit.train.batch_size) // 2 * 2
    chosen = unit.pool[:num_examples]
    few = dataclasses.replace(
        source,
        images=source.images[chosen],
        labels=source.labels[chosen],
        test=None,
        ids=None,
        jpegs=tuple(source.jpegs[index] for index in chosen) if source.jpegs else (),
    )
    return Probe(unit=dataclasses.replace(unit, pool=np.arange(num_examples)), source=few, seconds=seconds)


def run_locally(probe: Probe) -> Measurement:
    """Run a probe in a process like those of the local pool.

    Raises:
        WorkerDied: the process died.
        CallFailed: training or querying raised.
    """
    return run_in_process(_measure_with_one_thread, probe)


def _measure_with_one_thread(probe: Probe) -> Measurement:
    torch.set_num_threads(1)
    return measure(probe)


def measure(probe: Probe) -> Measurement:
    """Train and query the probe's models; runs in a worker and leaves nothing on disk."""
    start = time.perf_counter()
    stacked = probe.unit.engine == "stacked"
    with tempfile.TemporaryDirectory(prefix="ungan-dist-plan-") as folder:
        prepare(probe.source, Path(folder), loader=probe.unit.prepared.loader)
        prepared = dataclasses.replace(probe.unit.prepared, output=folder, data_hash=probe.source.content_hash)
        unit = dataclasses.replace(probe.unit, prepared=prepared)
        alone = dataclasses.replace(unit, engine="serial", shadows=unit.shadows[:1])
        seconds = probe.seconds / 2 if stacked else probe.seconds
        target_seconds, query_seconds, num_bytes = _time_unit(alone, seconds)
        shadow_seconds = _time_unit(unit, seconds)[0] if stacked else target_seconds
    return Measurement(
        shadow_seconds=shadow_seconds,
        target_seconds=target_seconds,
        query_seconds=query_seconds,
        weights_bytes=num_bytes,
        memory_bytes=_peak_memory(),
        device_memory_bytes=torch.cuda.max_memory_allocated() if unit.device == "cuda" else 0,
        elapsed_seconds=time.perf_counter() - start,
    )


def _time_unit(unit: ShadowUnit, seconds: float) -> tuple[float, float, int]:
    """Warm up with one epoch, then time passes of 1, 2, 4 … epochs while time is left.

    The warm-up compiles and allocates, so it counts neither as a pass nor against the time. The difference of the last
    two passes is free of the cost of starting a pass.

    Returns:
        Training time per example, epoch and model, query time per example and model, and the size of a model's file.
    """
    _time_pass(unit, 1)
    deadline = time.perf_counter() + seconds
    epochs, shorter = 1, None
    training, querying, trained = _time_pass(unit, epochs)
    while time.perf_counter() + 2 * (training + querying) <= deadline:
        epochs, shorter = 2 * epochs, training
        training, querying, trained = _time_pass(unit, epochs)
    epoch_seconds = training / epochs
    if shorter is not None and training > shorter:
        epoch_seconds = (training - shorter) / (epochs / 2)
    num_examples = len(unit.pool) * unit.num_models
    return epoch_seconds / (num_examples / 2), querying / num_examples, len(weights_bytes(trained.models[0]))


def _time_pass(unit: ShadowUnit, epochs: int) -> tuple[float, float, Shadows]:
    """Train and query once, and return the seconds of each."""
    start = time.perf_counter()
    trained = _train(unit, epochs)
    trained_at = time.perf_counter()
    evaluate_shadows(unit, trained)
    return trained_at - start, time.perf_counter() - trained_at, trained


def _train(unit: ShadowUnit, epochs: int) -> Shadows:
    trained = train_shadows(dataclasses.replace(unit, train=dataclasses.replace(unit.train, epochs=epochs)))
    if unit.device == "cuda":
        torch.cuda.synchronize()
    return trained


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
