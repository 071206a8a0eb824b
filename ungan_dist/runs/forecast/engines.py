"""Choose the engine of a run on a GPU by a short measurement, and how many units a GPU takes at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ungan_dist.errors import Unfinished
from ungan_dist.runs.forecast.engine_timing import LIMIT_S, EngineTask, EngineTiming, measure_in_process
from ungan_dist.runs.forecast.probe import make_probe
from ungan_dist.runs.kernel_choice.choice import settle_kernels
from ungan_dist.runs.placement import count_units
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.progress import ProgressCallback, remark, silent
from ungan_dist.runs.record import read_plain_of
from ungan_dist.runs.rehearsal.process import RunOnce, run_here

GAIN = 1.1
"""An engine is taken if it is at least so many times as fast as ``serial``."""
TOLERANCE = 0.02
"""Largest relative difference of an engine's weights to those of ``serial``, after the few steps of the measurement."""


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """The engine of a run, kept in its record."""

    engine: str
    reason: str
    units_per_gpu: int = 1


def settle_plan(
    plan: Plan,
    *,
    settle_kernels: Callable[[Plan], Plan] = settle_kernels,
    run_once: RunOnce | None = run_here,
    on_progress: ProgressCallback = silent,
) -> Plan:
    """Settle what a plan leaves open: first its kernels, then its engine."""
    return settle_engine(settle_kernels(plan), run_once, on_progress)


def settle_engine(
    plan: Plan,
    run_once: RunOnce | None = run_here,
    on_progress: ProgressCallback = silent,
    *,
    engines: Sequence[str] | None = None,
) -> Plan:
    """Return the plan with its engine chosen; only a new run measures.

    Args:
        plan: The plan, before any unit is computed.
        run_once: Calls the measurement where units are computed; defaults to this machine. None measures nothing.
        on_progress: Called with what was chosen.
        engines: Engines to measure; defaults to those that the device and the config admit.

    Raises:
        Unfinished: No worker of the cluster was free in time.
    """
    present = read_plain_of(plan.folder, plan.record.run_hash)
    if present is not None:
        known = present["resolved"]
        return _replan(plan, {name: known[name] for name in ("engine", "engine_choice") if name in known})
    engines = list_engines(plan) if engines is None else engines
    if not engines or run_once is None or not plan.shadows:
        return plan
    on_progress(remark("engine", f"measured on a few examples: {', '.join(engines)}"))
    size = plan.record.config.shadows.unit_size
    task = EngineTask(
        probe=make_probe(plan, LIMIT_S),
        engines=tuple(engines),
        unit_size=size,
        data_bytes=int(plan.source.images.nbytes),
    )
    try:
        timings = run_once(measure_in_process, task)
    except TimeoutError as error:
        raise Unfinished(
            "no worker measured the engines in time: other jobs may hold the cluster, see `ray status`; run again"
        ) from error
    choice = choose_engine(timings, asked=plan.record.config.shadows.engine)
    on_progress(remark("engine", choice.reason))
    return _replan(plan, {"engine": choice.engine, "engine_choice": dataclasses.asdict(choice)})


def list_engines(plan: Plan) -> tuple[str, ...]:
    """List the engines to measure; none on a CPU, where ``serial`` is the fastest that was measured."""
    config, device = plan.record.config, plan.record.resolved["device"]
    if device != "cuda" or config.shadows.data_parallel:
        return ()
    if config.train.function is not None:  # it takes its own steps
        return ()
    if config.shadows.engine != "auto":
        return (config.shadows.engine,)
    return ("serial", "graph", "branches", *(() if config.model.factory else ("stacked",)))


def choose_engine(timings: Sequence[EngineTiming], *, asked: str = "auto", cores: int | None = None) -> EngineChoice:
    """Choose the fastest engine, if it is right and clearly faster than ``serial``.

    Args:
        timings: What was measured.
        asked: The engine of the config; another than ``auto`` is taken as it is.
        cores: Cores for each GPU; defaults to those of the machine that measured.

    Examples:
        >>> timings = [EngineTiming(engine="serial", seconds=2.0), EngineTiming(engine="graph", seconds=1.0)]
        >>> choose_engine(timings).reason
        'graph is 2.00 times as fast as serial'
    """
    known = {timing.engine: timing for timing in timings}
    base = known.get("serial")
    words: list[str] = []
    ratios: dict[str, float] = {}
    for engine, timing in known.items():
        if engine == "serial":
            continue
        if timing.reason or timing.seconds is None:
            words.append(f"{engine}: {timing.reason}")
        elif timing.difference > TOLERANCE:
            words.append(f"{engine}: its weights differ by {timing.difference:.2g}")
        elif base is not None and base.seconds is not None:
            ratios[engine] = base.seconds / timing.seconds
            words.append(f"{engine} is {ratios[engine]:.2f} times as fast as serial")
    engine = asked
    if asked == "auto":
        best = max(ratios, key=lambda name: ratios[name], default="serial")
        engine = best if ratios.get(best, 0.0) >= GAIN else "serial"
    chosen = known.get(engine)
    reason = "; ".join(words) if words else "asked for" if asked != "auto" else "no other engine was measured"
    if engine == "serial" and asked == "auto" and words:
        reason = f"serial, since no other engine is {GAIN} times as fast: {reason}"
    units = 1
    if chosen and chosen.free_bytes:
        units = count_units(chosen.memory_bytes, chosen.free_bytes, cores or chosen.cores_per_gpu or 1)
    return EngineChoice(engine=engine, reason=reason, units_per_gpu=units)


def _replan(plan: Plan, resolved: dict[str, Any]) -> Plan:
    """Return the plan with other resolved values; units of another engine have other ids."""
    record = dataclasses.replace(plan.record, resolved=plan.record.resolved | resolved)
    if record.resolved["engine"] == plan.record.resolved["engine"]:
        return dataclasses.replace(plan, record=record)
    made = make_plan(record.config, record=record, source=plan.source)
    return dataclasses.replace(made, place=plan.place, warnings=plan.warnings, notes=plan.notes)
