"""What a run will cost: from a few real epochs of everything it trains, timed where it would run."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ungan_dist import store
from ungan_dist.attack.power import Power
from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.prepared import Prepared, prepare
from ungan_dist.errors import ConfigError
from ungan_dist.runs.forecast.outlook import Outlook, more, outlook
from ungan_dist.runs.forecast.probe import NOTHING, Cost, ProbeUnit, now, read
from ungan_dist.runs.forecast.report_cost import report_cost
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.record import extend_config
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Done, Failed, Unit, missing
from ungan_dist.urls import is_url

RunProbes = Callable[[Sequence[ProbeUnit]], tuple[Sequence[Done | Failed], Cost]]
"""Probes in; what became of them out, and what a worker's start took."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One part of a run."""

    name: str
    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class More:
    """What twice as much of one thing buys, and what it costs beyond this run."""

    power: Power
    device_hours: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will cost and what it can show."""

    outlook: Outlook
    device: str
    num_workers: int
    stages: list[StageCost]
    unit_seconds: dict[str, float]
    """Of one shadow model (``shadow model``), and of each method under one seed."""
    device_hours: float
    """Cores' hours on a CPU, GPUs' hours otherwise: of the units alone."""
    memory_bytes: int
    """A worker's, on the host."""
    device_memory_bytes: int
    """A worker's, on its GPU."""
    disk_bytes: int
    """That the run will write."""
    free_disk_bytes: int
    more: dict[str, More]
    probe_seconds: float
    cpu_share: float
    """Of a core that each probe had: below 1, others are at work on this machine."""
    divisor: int

    @property
    def wall_seconds(self) -> float:
        return sum(stage.wall_seconds for stage in self.stages)

    @property
    def cpu_seconds(self) -> float:
        return sum(stage.cpu_seconds for stage in self.stages)


def plan_of(config: AuditConfig, device: str | None) -> Plan:
    """The plan of a run, with what it has been asked before; nothing is written.

    Raises:
        ConfigError: wrong config or input, or an output that is no folder.
    """
    if is_url(config.output):
        raise ConfigError(
            f"plan looks for what is done in a folder, which {config.output} is not: give --output a folder (on a "
            f"cluster one that all nodes share); the costs are the same"
        )
    plan = make_plan(config, device=device)
    longer = extend_config(config, plan.folder, plan.record)
    return plan if longer == config else make_plan(longer, device=device)


def forecast(
    plan: Plan,
    run_probes: RunProbes,
    *,
    num_workers: int,
    seconds: float,
    begun: Cost,
    devices_per_worker: float = 1.0,
    shared: bool = False,
) -> Forecast:
    """Probes the workers, and lays out the run.

    Args:
        num_workers: processes or actors that a run would have.
        seconds: about what the probe may take.
        begun: the clocks when this process started: reading data and drawing sets is part of a run too.
        devices_per_worker: cores or GPUs that a worker holds.
        shared: keep the scratch folder below the run's output, which all nodes see.

    Raises:
        ConfigError: a probe failed; with its error.
    """
    reading = now().minus(begun)
    known = outlook(plan)
    began = time.perf_counter()
    with _scratch(plan, shared) as scratch:
        prepared, preparing = _prepared(plan, scratch)
        probes = [_probe(plan, prepared, scratch, number, seconds) for number in range(num_workers)]
        outcomes, starting = run_probes(probes)
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        if failed:
            raise ConfigError(f"the probe failed, and the run would too: {failed[0].error.strip()}")
        measured = [read(probe) for probe in probes]
    elapsed = time.perf_counter() - began
    targets = {method: _mean([one.targets[method] for one in measured]) for method in measured[0].targets}
    shadow = _mean([one.shadows for one in measured])
    opening = _mean([one.opening for one in measured])

    def cost(unit: Unit) -> Cost:
        return shadow.times(unit.num_models) if isinstance(unit, ShadowUnit) else targets[unit.method]

    todo = missing([*plan.targets, *plan.shadows])
    first, second = missing([*plan.originals, *plan.shadows]), missing(plan.unlearning)
    num_started = min(num_workers, max(len(first), len(second)))
    stages = [_stage("read and prepare", reading.plus(preparing))]
    if todo:
        up = starting.plus(opening)
        stages.append(
            StageCost(
                name=f"start {num_started} workers",
                wall_seconds=up.seconds,
                cpu_seconds=up.cpu_seconds * num_started,
            )
        )
    for name, units in (("original, shadows", first), ("unlearning", second)):
        costs = [cost(unit) for unit in units]
        stages.append(
            StageCost(
                name=name,
                wall_seconds=makespan([one.seconds for one in costs], num_workers),
                cpu_seconds=sum(one.cpu_seconds for one in costs),
            )
        )
    stages.append(_stage("score and report", report_cost(plan)))
    total = sum(cost(unit).seconds for unit in todo)
    hours = devices_per_worker / 3600
    whole_seed = sum(one.seconds for one in targets.values())
    extra = {
        "seeds × 2": known.design.num_seeds * whole_seed,
        "shadow models × 2": known.design.num_shadows * shadow.seconds,
        # another run, of the same shadow models
        "forget list × 2" if known.levers.forget_list else "forget set × 2": known.design.num_seeds * whole_seed,
    }
    return Forecast(
        outlook=known,
        device=str(plan.record.resolved["device"]),
        num_workers=num_workers,
        stages=stages,
        unit_seconds={"shadow model": shadow.seconds} | {method: one.seconds for method, one in targets.items()},
        device_hours=total * hours,
        memory_bytes=max(one.memory_bytes for one in measured),
        device_memory_bytes=max(one.device_memory_bytes for one in measured),
        disk_bytes=_disk_bytes(plan, measured[0].weights_bytes),
        free_disk_bytes=shutil.disk_usage(_existing(plan.folder)).free,
        more={
            name: More(power=gained, device_hours=extra[name] * hours)
            for name, (_, gained) in more(known.design, known.delta, known.levers).items()
        },
        probe_seconds=elapsed,
        cpu_share=float(np.mean([one.elapsed.cpu_seconds / one.elapsed.seconds for one in measured])),
        divisor=max(one.divisor for one in measured),
    )


def makespan(seconds: Sequence[float], num_workers: int) -> float:
    """How long workers take that are handed one unit after the other, in this order."""
    free = [0.0] * num_workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


@contextlib.contextmanager
def _scratch(plan: Plan, shared: bool) -> Iterator[Path]:
    if not shared:
        with tempfile.TemporaryDirectory(prefix="ungan-dist-plan-") as folder:
            yield Path(folder)
        return
    try:
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=".plan-", dir=plan.folder.parent)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {plan.folder.parent} ({error.strerror}): choose another --output"
        ) from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepared(plan: Plan, scratch: Path) -> tuple[Prepared, Cost]:
    """The run's prepared data where they lie there, else prepared in the scratch folder; and what that takes a run."""
    begin = now()
    prepared = plan.originals[0].prepared
    if not _is_prepared(prepared):
        prepare(plan.source, scratch, loader=prepared.loader)
        prepared = dataclasses.replace(prepared, output=str(scratch))
    return prepared, now().minus(begin)


def _is_prepared(prepared: Prepared) -> bool:
    if prepared.loader == "ffcv":
        return store.committed(Path(prepared.output), prepared.beton.marker, id=prepared.beton.id) is not None
    return store.committed(Path(prepared.output), prepared.marker, id=prepared.data_hash) is not None


def _probe(plan: Plan, prepared: Prepared, scratch: Path, number: int, seconds: float) -> ProbeUnit:
    folder = scratch / f"probe-{number}"
    firsts: dict[str, TargetUnit] = {}
    for unit in plan.targets:
        firsts.setdefault(unit.method, dataclasses.replace(unit, run=str(folder), prepared=prepared))
    return ProbeUnit(
        id=f"probe-{number}",
        folder=str(folder),
        shadow=dataclasses.replace(plan.shadows[0], prepared=prepared),
        targets=tuple(firsts.values()),
        seconds=seconds,
    )


def _disk_bytes(plan: Plan, weights_bytes: int) -> int:
    """Of the arrays and weights that are still to be written; reports and markers are some hundred kilobytes more."""
    prepared = plan.originals[0].prepared
    num_queries = len(plan.record.config.shadows.queries)
    num_bytes = 0
    if not _is_prepared(prepared):
        num_bytes += plan.source.images.nbytes + 8 * len(plan.source.labels)
    num_rows = len(plan.split.pool) + len(plan.split.unseen)
    num_bytes += len(missing(plan.targets)) * (weights_bytes + 4 * num_queries * num_rows)
    for unit in missing(plan.shadows):
        num_bytes += unit.num_models * 4 * num_queries * len(plan.split.pool)
        num_bytes += unit.num_models * weights_bytes * plan.record.config.execution.keep_shadow_models
    return num_bytes


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _stage(name: str, cost: Cost) -> StageCost:
    return StageCost(name=name, wall_seconds=cost.seconds, cpu_seconds=cost.cpu_seconds)


def _mean(costs: Sequence[Cost]) -> Cost:
    return NOTHING.plus(*costs).times(1 / len(costs))
