"""Estimate the cost of a run from one timed probe: examples × epochs × units ÷ workers.

The estimate is rough: expect it within about 50 % of the real time.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.config.attack import list_views
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import appended
from ungan_dist.config.methods import OriginalConfig, RetrainConfig, UnlearnedConfig
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.failures import sort_out_absent
from ungan_dist.runs.forecast.engines import settle_engine
from ungan_dist.runs.forecast.gains import UNLEARNED_SHADOWS, More, compare_numbers_of_unlearnings, list_gains
from ungan_dist.runs.forecast.outlook import Outlook, make_outlook
from ungan_dist.runs.forecast.probe import FIRST_EXAMPLES, Measurement, Probe, make_probe
from ungan_dist.runs.kernel_choice.choice import JudgeEverywhere, settle_kernels
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.rehearsal.process import RunOnce
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Unit, is_done, missing
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit, find_missing_weights
from ungan_dist.runs.views import find_place, refuse_changed_methods
from ungan_dist.urls import is_url
from ungan_dist.worker_process import WorkerDied

PASSES_PER_EPOCH = 2
"""Cost of an unlearning epoch relative to a training epoch: most methods evaluate a second set or a second model."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Cost and power of a run. All costs are 0 if nothing is left to compute, and ``None`` if nothing was measured."""

    outlook: Outlook
    device: str
    num_workers: int
    """Processes or actors of the run; 0 if nothing is left to compute."""
    stages: dict[str, float]
    """Wall time of each stage in seconds; scoring and the report are not included."""
    unit_seconds: dict[str, float]
    """Time for one ``shadow model``, one model of each method, and one of ``unlearned shadows: METHOD``, by all of its
    processes."""
    device_hours: float | None
    """Core-hours on a CPU, else GPU-hours; start-up is not included."""
    memory_bytes: int | None
    """Host memory per worker."""
    device_memory_bytes: int | None
    """GPU memory per worker."""
    disk_bytes: int | None
    """Bytes that the run will write."""
    free_disk_bytes: int
    unlearned_seconds: float | None
    """Time of one worker for U-LiRA: shadow models that unlearn, or are trained again for their weights."""
    more: dict[str, More]
    unlearnings: dict[int, float]
    """Unlearnings of an original → cost of the same interval, relative to one unlearning; empty if unknown."""
    probe_seconds: float
    measured: str
    """What was timed, from which the costs are estimated; empty if nothing is left to compute."""

    @property
    def wall_seconds(self) -> float | None:
        return None if self.device_hours is None else sum(self.stages.values())


def plan_in_folder(
    config: AuditConfig,
    device: str | None,
    *,
    judge_everywhere: JudgeEverywhere | None = None,
    run_once: RunOnce | None = None,
) -> Plan:
    """Make the plan of a request, with the place of its report; write nothing into its folder.

    Args:
        config: The config of the request.
        device: ``cpu`` or ``cuda``; defaults to what this machine has.
        judge_everywhere: Calls the self-check of a new run's kernels; defaults to judging none.
        run_once: Calls the measurement of a new run's engine; defaults to measuring none.

    Raises:
        ConfigError: wrong config or input, or the output is not a folder.
    """
    if is_url(config.output):
        raise ConfigError(
            f"plan needs a folder to see what is done, and {config.output} is not one: set --output to a folder. The "
            f"costs are the same"
        )
    plan = make_plan(config, device=device)
    refuse_changed_methods(config, plan.folder)
    plan = settle_engine(settle_kernels(plan, judge_everywhere), run_once)
    place = find_place(plan.folder, plan.record.run_hash, appended(config))
    return dataclasses.replace(plan, place=place)


def make_forecast(
    plan: Plan,
    run_probe: Callable[[Probe], Measurement | None],
    *,
    num_workers: int,
    seconds: float,
    began: float | None = None,
    devices_per_worker: float = 1.0,
) -> Forecast:
    """Run a probe in one worker and scale its result to the whole run.

    Args:
        run_probe: Executes the probe in a new worker, within its time limit.
        num_workers: Processes or actors of the run.
        seconds: Time limit of the probe.
        began: ``time.perf_counter()`` at the start of the command, to include its start-up; defaults to now.
        devices_per_worker: Cores or GPUs of one worker.

    Raises:
        ConfigError: the probe failed.
    """
    start = time.perf_counter()
    outlook = make_outlook(plan)
    todo = find_todo(plan)
    if not any(todo.values()):
        return make_idle_forecast(outlook, str(plan.record.resolved["device"]))
    probe = make_probe(plan, seconds)
    measured = _run(run_probe, probe)
    stages: dict[str, float] = {}
    unit_seconds: dict[str, float] = {}
    if measured is not None:
        end = time.perf_counter()
        stages["start"] = end - (start if began is None else began) - measured.elapsed_seconds
        unit_seconds = _unit_seconds(plan, measured)
        for name, units in todo.items():
            # all processes train these one after another, then the fleet the others
            together = [_seconds(unit, unit_seconds) for unit in units if count_processes(plan, unit) > 1]
            alone = [_seconds(unit, unit_seconds) for unit in units if count_processes(plan, unit) == 1]
            stages[name] = sum(together) + wall_seconds(alone, num_workers)
    hours = devices_per_worker / 3600
    worker_seconds = _worker_seconds(plan, unit_seconds)
    work = (
        {name: sum(_seconds(unit, worker_seconds) for unit in units) for name, units in todo.items()}
        if measured
        else None
    )
    return Forecast(
        outlook=outlook,
        device=str(plan.record.resolved["device"]),
        num_workers=num_workers,
        stages=stages,
        unit_seconds=unit_seconds,
        device_hours=None if work is None else hours * sum(work.values()),
        unlearned_seconds=None if work is None else work.get(UNLEARNED_SHADOWS, 0.0),
        free_disk_bytes=_free_bytes(plan.folder),
        more=list_gains(outlook, worker_seconds, hours),
        unlearnings=compare_numbers_of_unlearnings(outlook, worker_seconds),
        probe_seconds=measured.elapsed_seconds if measured else seconds,
        measured=_describe(measured, probe),
        **_sizes(plan, measured),
    )


def make_idle_forecast(outlook: Outlook, device: str) -> Forecast:
    """Return the forecast of a run of which nothing is left to compute."""
    return Forecast(
        outlook=outlook,
        device=device,
        num_workers=0,
        stages={},
        unit_seconds={},
        device_hours=0.0,
        unlearned_seconds=0.0,
        memory_bytes=0,
        device_memory_bytes=0,
        disk_bytes=0,
        free_disk_bytes=_free_bytes(outlook.folder),
        more={},
        unlearnings={},
        probe_seconds=0.0,
        measured="",
    )


def find_todo(plan: Plan) -> dict[str, list[Unit]]:
    """Return the units of each stage that ``run`` would compute; units that fail every time are not among them."""
    absent = missing(plan.units)
    if not plan.record.config.execution.retry_failed:
        absent = sort_out_absent(plan.folder, absent)[1]
    todo = {unit.id for unit in absent}
    stages: dict[str, list[Unit]] = {
        "original, shadows": [unit for unit in (*plan.originals, *plan.shadows) if unit.id in todo],
        "unlearning": [unit for unit in plan.unlearning if unit.id in todo],
    }
    if plan.unlearned_shadows:
        unlearned = [unit for unit in plan.unlearned_shadows if unit.id in todo]
        stages[UNLEARNED_SHADOWS] = [*find_missing_weights(unlearned), *unlearned]
    return stages


def count_processes(plan: Plan, unit: Unit) -> int:
    """Return the data-parallel processes that train a unit."""
    config = plan.record.config
    if isinstance(unit, TargetUnit) or (isinstance(unit, ShadowUnit) and config.shadows.data_parallel):
        return config.train.num_workers
    return 1


def _worker_seconds(plan: Plan, unit_seconds: dict[str, float]) -> dict[str, float]:
    """Return the time of all processes of each kind of unit."""
    processes = {"shadow model": count_processes(plan, plan.shadows[0])}
    processes |= {unit.method: count_processes(plan, unit) for unit in plan.targets}
    return {name: seconds * processes.get(name, 1) for name, seconds in unit_seconds.items()}


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in folder.parents if path.is_dir())).free


def _describe(measured: Measurement | None, probe: Probe) -> str:
    """Describe what was timed, in a sentence."""
    if measured is None:
        examples = min(FIRST_EXAMPLES, len(probe.unit.pool)) // 2
        return f"nothing: training on {examples} examples and a query of {2 * examples} took over {probe.seconds:g} s"
    parts: list[str] = []
    together = f"{len(probe.unit.shadows)} with the engine {probe.unit.engine}"
    by_all = "one model by all data-parallel processes"
    for timing, models in (
        (measured.alone, "one model"),
        (measured.by_engine, together),
        (measured.together, by_all),
    ):
        if timing is not None:
            batches = f"{timing.num_examples:,} examples in batches of {timing.batch_size}"
            warm = ", with its start-up" if timing.is_cold else ""
            parts.append(f"{timing.epochs} epoch(s) of {models}, {batches}{warm}")
    if probe.unit.engine != "serial" and measured.by_engine is None:
        parts.append(f"the engine {probe.unit.engine} was not, so each model is estimated as if trained step by step")
    if measured.alone.batch_size < probe.unit.train.batch_size:
        parts.append(f"no batch of {probe.unit.train.batch_size}, which may be faster by example")
    return "; ".join(parts)


def wall_seconds(unit_seconds: Sequence[float], num_workers: int) -> float:
    """Estimate the wall time of independent units: their sum ÷ workers, but at least the longest unit.

    Example:
        >>> wall_seconds([3.0, 3.0, 3.0, 3.0], 2)
        6.0
        >>> wall_seconds([3.0, 1.0], 8)
        3.0
    """
    return max(sum(unit_seconds) / num_workers, max(unit_seconds, default=0.0))


def num_examples_trained(unit: TargetUnit) -> int:
    """Count the examples, over all epochs, that a target trains on.

    The fields of a method's config that end in ``epochs`` are counted as ``PASSES_PER_EPOCH`` training epochs each.
    """
    config, epochs = unit.method_config, unit.train.num_passes
    num_retain, num_forget = len(unit.draw.retain), len(unit.draw.forget)
    match config:
        case OriginalConfig():
            return 0 if unit.given_original else epochs * (num_retain + num_forget)
        case UnlearnedConfig():
            return 0
        case RetrainConfig():
            return epochs * num_retain
        case _:
            settings: Any = config.settings() if hasattr(config, "settings") else config
            counts = [value for name, value in vars(settings).items() if name.endswith("epochs")]
            epochs = sum(count for count in counts if isinstance(count, int))
            return PASSES_PER_EPOCH * epochs * (num_retain + num_forget)


def _run(run_probe: Callable[[Probe], Measurement | None], probe: Probe) -> Measurement | None:
    try:
        return run_probe(probe)
    except WorkerDied as error:
        raise ConfigError(f"the probe failed: {error}; see `ungan-dist doctor`") from error
    except TimeoutError as error:
        raise ConfigError(
            "no worker started the probe in time: other jobs may hold the machine or the cluster, see `ray status`"
        ) from error
    except Unfinished:  # the cluster has failed, not the probe
        raise
    except Exception as error:  # also from the user's code
        raise ConfigError(f"the probe failed, and the run would fail too: {error}") from error


def _unit_seconds(plan: Plan, measured: Measurement) -> dict[str, float]:
    shadow = plan.shadows[0]
    num_pool = len(shadow.pool)
    by_all = (measured.together or measured.alone).train_seconds
    of_shadow = by_all if count_processes(plan, shadow) > 1 else measured.shadow_seconds
    query_seconds = measured.alone.query_seconds
    seconds = {"shadow model": shadow.train.num_passes * num_pool // 2 * of_shadow + num_pool * query_seconds}
    querying = (num_pool + len(plan.split.unseen) + len(plan.split.test)) * query_seconds
    for unit in reversed(plan.targets):
        num_trained = num_examples_trained(unit)
        seconds[unit.method] = num_trained * by_all + querying
        if unit.method in plan.record.config.attack.unlearned_shadows:
            alone = num_trained * measured.alone.train_seconds  # shadow models unlearn in one process
            seconds[f"{UNLEARNED_SHADOWS}: {unit.method}"] = alone + len(unit.draw.forget) * query_seconds
    return seconds


def _seconds(unit: Unit, unit_seconds: dict[str, float]) -> float:
    if isinstance(unit, ShadowUnit):
        return unit.num_models * unit_seconds["shadow model"]
    if isinstance(unit, UnlearnedShadowUnit):
        return unit.num_models * unit_seconds[f"{UNLEARNED_SHADOWS}: {unit.method}"]
    return unit_seconds[unit.method]


def _sizes(plan: Plan, measured: Measurement | None) -> dict[str, int | None]:
    """Estimate memory per worker and the arrays and weights to be written; reports need some hundred kB more."""
    if measured is None:
        return {"memory_bytes": None, "device_memory_bytes": None, "disk_bytes": None}
    config, prepared = plan.record.config, plan.originals[0].prepared
    resident = plan.source.images.nbytes if prepared.loader == "resident" else 0
    on_device = resident if plan.record.resolved["device"] == "cuda" else 0
    marker, id = (
        (prepared.beton.marker, prepared.beton.id)
        if prepared.loader == "ffcv"
        else (prepared.marker, prepared.data_hash)
    )
    is_prepared = store.committed(Path(prepared.output), marker, id=id) is not None
    num_bytes = 0 if is_prepared else plan.source.images.nbytes + 8 * len(plan.source.labels)
    row = 4 * len(list_views(config.shadows.queries))
    num_rows = len(plan.split.pool) + len(plan.split.unseen)
    num_bytes += len(missing(plan.targets)) * (measured.alone.weights_bytes + row * num_rows)
    kept = measured.alone.weights_bytes if plan.shadows[0].keep_models else 0
    num_shadows = sum(unit.num_models for unit in missing(plan.shadows))
    unlearned = [unit for unit in plan.unlearned_shadows if not is_done(unit)]
    num_bytes += sum(unit.num_models * row * len(unit.target.draw.forget) for unit in unlearned)
    num_bytes += sum(kept * unit.num_models for unit in find_missing_weights(unlearned))
    return {
        "memory_bytes": measured.memory_bytes + resident,
        "device_memory_bytes": measured.device_memory_bytes + on_device,
        "disk_bytes": num_bytes + num_shadows * (row * len(plan.split.pool) + kept),
    }
