"""Run an audit on this machine or on a Ray cluster, as configured."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist.attack.evidence import Report
from ungan_dist.config.audit import AuditConfig
from ungan_dist.runs import pipeline, progress
from ungan_dist.runs.looks import audit_in_looks
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.runs.forecast.forecast import Forecast
    from ungan_dist.runs.forecast.outlook import Outlook
    from ungan_dist.runs.storage.mirror import Mirror
    from ungan_dist.tracking.tracker import Tracker


def audit(
    config: AuditConfig,
    *,
    on_progress: progress.ProgressCallback | None = None,
    tracker: Tracker | None = None,
) -> Report:
    """Run an audit: train, unlearn, attack, report. Finished work of a run with the same config is not repeated.

    Args:
        config: the config of a recipe, with your changes. ``config.cluster`` chooses where to run. ``config.output``
            may be the URL of object storage; each machine then works in a folder of its own.
        on_progress: called with each progress ``Event``, in this process. What it raises ends the run, and the same
            call continues it. By default, progress is shown on standard error: a bar on a terminal or in a notebook,
            else plain lines. ``config.execution.progress`` chooses; ``"none"`` is silent.
        tracker: receives curves, verdicts and the report. Defaults to the one that ``config.tracking`` names.

    Returns:
        The report. Its ``status`` is ``COMPLETE``; ``COMPLETE WITH FAILURES`` if ``failures`` would fail again; or
        ``PARTIAL`` if the same call computes what is ``missing``.

    Raises:
        ConfigError: the config or input is wrong, the cluster or storage does not exist, or it has too few resources.
            Nothing was computed. Also if nothing can be scored, because every original or shadow model fails.
        Unfinished: storage is full or unreachable, or too little succeeded for a report. Run again to continue.

    Examples:
        >>> import tempfile
        >>> from ungan_dist.config import attack, data, execution, recipes, training
        >>> with tempfile.TemporaryDirectory() as folder:  # a tiny run
        ...     config = dataclasses.replace(
        ...         recipes.digits(),
        ...         split=data.SplitConfig(train=200, shadow_pool=200, unseen=50, forget_fraction=0.2),
        ...         model=training.ModelConfig(width=4),
        ...         train=training.TrainConfig(epochs=1),
        ...         shadows=training.ShadowConfig(num_models=4, unit_size=4),
        ...         attack=attack.AttackConfig(num_resamples=100),
        ...         methods=("original", "retrain"),
        ...         num_seeds=1,
        ...         execution=execution.ExecutionConfig(progress="none"),
        ...         output=folder,
        ...     )
        ...     report = audit(config)
        >>> [row.title for row in report.rows]
        ['Original', 'Retrain']
    """
    if on_progress is None:
        with progress.progress(config.execution.progress) as shown:
            return audit(config, on_progress=shown, tracker=tracker)
    if tracker is None and config.tracking == "none":
        return _audit_there(config, on_progress)
    from ungan_dist.tracking.session import Session
    from ungan_dist.tracking.tracker import open_tracker

    session = Session(tracker or open_tracker(config.tracking), config, on_progress)
    try:
        report = _audit_there(config, on_progress, session.log_unit)
        session.log_report(report)
    finally:
        session.finish()
    return report


def _audit_there(
    config: AuditConfig, on_progress: progress.ProgressCallback, on_result: pipeline.OnResult | None = None
) -> Report:
    """Audit in the output folder, or in object storage."""
    if not is_url(config.output):
        return _audit(config, None, on_progress, on_result)
    from ungan_dist.runs.storage.mirror import connect

    mirror = connect(config.output, cache=config.execution.cache)
    return _audit(dataclasses.replace(config, output=str(mirror.folder)), mirror, on_progress, on_result)


def _audit(
    config: AuditConfig,
    mirror: Mirror | None,
    on_progress: progress.ProgressCallback,
    on_result: pipeline.OnResult | None,
) -> Report:
    if config.cluster == "local":
        audit = functools.partial(pipeline.audit, on_progress=on_progress, mirror=mirror, on_result=on_result)
        return _until(config, audit)
    from ungan_dist.cluster.fleet import Fleet

    remote = {} if mirror is None else _make_remote_options(mirror, config)
    with Fleet(
        config.fleet, address=config.cluster, output=Path(config.output), on_progress=on_progress, **remote
    ) as fleet:
        run_units = fleet.run_units
        if config.train.num_workers > 1:
            from ungan_dist.cluster.ddp import split_between_trainer_and_fleet

            run_units = split_between_trainer_and_fleet(fleet, config, on_progress, mirror)
        audit = functools.partial(
            pipeline.audit,
            run_units=run_units,
            run_once=fleet.run_once,
            judge_everywhere=fleet.run_on_each_gpu_type,
            share_gpus=fleet.share_gpus,
            device=fleet.allocation.device,
            on_progress=on_progress,
            mirror=mirror,
            on_result=on_result,
        )
        return _until(config, audit)


def _until(config: AuditConfig, audit: Callable[..., Report]) -> Report:
    return audit_in_looks(config, audit) if config.until == "decided" else audit(config)


def _make_remote_options(mirror: Mirror, config: AuditConfig) -> dict[str, Any]:
    """Make the fleet's options for workers that share no folder with the driver."""
    from ungan_dist.runs.storage.workers import ArrivedFrom, ExecuteThere

    return {
        "execute": ExecuteThere(url=mirror.url, cache=config.execution.cache),
        "is_done": ArrivedFrom(mirror=mirror),
    }


def forecast(
    config: AuditConfig,
    *,
    seconds: float,
    began: float | None = None,
    on_progress: progress.ProgressCallback = progress.silent,
) -> Forecast:
    """Estimate the cost of ``audit`` with this config, by a short probe in one worker. Nothing is kept on disk.

    A finished run is recognised from its folder; then nothing is read or measured.

    Args:
        config: the config of a recipe, with your changes.
        seconds: time limit of everything that is measured. A rehearsal of your model takes half of it at most. Reading
            the data and starting one or two processes is not included.
        began: ``time.perf_counter()`` at the start of the command; defaults to now.
        on_progress: called with what a rehearsal of your model found.

    Raises:
        ConfigError: wrong config or input, no such cluster, too few resources, or a failed probe.
    """
    if config.train.num_workers > 1 and config.cluster == "local":
        raise pipeline.refuse_processes(config)
    from ungan_dist.runs.forecast.forecast import make_forecast, make_idle_forecast, plan_in_folder
    from ungan_dist.runs.forecast.probe import START_S, Measurement, Probe, run_probe
    from ungan_dist.runs.kernel_choice.choice import run_here
    from ungan_dist.runs.operations import units_per_gpu
    from ungan_dist.runs.pool import num_processes
    from ungan_dist.runs.rehearsal import process
    from ungan_dist.runs.rehearsal.process import needs_rehearsal, rehearse

    if (found := find_finished_outlook(config)) is not None:
        outlook, device = found
        return make_idle_forecast(outlook, device)
    if config.cluster == "local":
        plan = plan_in_folder(config, None, judge_everywhere=run_here, run_once=process.run_here)
        if needs_rehearsal(plan):
            seconds /= 2
            rehearse(plan, on_progress=on_progress, limit_s=seconds)
        num_workers = num_processes(config.execution.num_processes, units_per_gpu(plan.record))
        return make_forecast(plan, run_probe, num_workers=num_workers, seconds=seconds, began=began)
    from ungan_dist.cluster.fleet import Fleet

    with Fleet(config.fleet, address=config.cluster) as fleet:
        plan = plan_in_folder(
            config, fleet.allocation.device, judge_everywhere=fleet.run_on_each_gpu_type, run_once=fleet.run_once
        )
        if needs_rehearsal(plan):
            seconds /= 2
            rehearse(plan, fleet.run_once, on_progress, limit_s=seconds)
        fleet.share_gpus(units_per_gpu(plan.record))
        allocation = fleet.allocate(len(plan.shadows))

        def measure(probe: Probe) -> Measurement | None:
            return fleet.run_once(run_probe, probe, timeout_s=START_S + probe.seconds)

        def measure_both(probe: Probe) -> Measurement | None:
            """Time one process, then all data-parallel processes."""
            from ungan_dist.cluster.ddp import make_resources, time_with_trainer

            half = dataclasses.replace(probe, seconds=probe.seconds / 2)
            alone = measure(half)
            if alone is None:
                return None
            begun = time.monotonic()
            together = time_with_trainer(half, make_resources(fleet, config))
            elapsed = alone.elapsed_seconds + time.monotonic() - begun
            return dataclasses.replace(alone, together=together, elapsed_seconds=elapsed)

        return make_forecast(
            plan,
            measure if config.train.num_workers == 1 else measure_both,
            num_workers=allocation.num_workers,
            seconds=seconds,
            began=began,
            devices_per_worker=allocation.gpus_per_worker or allocation.cpus_per_worker,
        )


def find_finished_outlook(config: AuditConfig) -> tuple[Outlook, str] | None:
    """Return the outlook and the device of the finished report that a config asks for, without its data."""
    from ungan_dist.runs.finished import find_finished
    from ungan_dist.runs.forecast.outlook import read_outlook
    from ungan_dist.runs.record import read_run
    from ungan_dist.runs.views import split_place

    finished = find_finished(config)
    outlook = None if finished is None else read_outlook(finished)
    if finished is None or outlook is None:
        return None
    return outlook, str(read_run(split_place(finished.folder)[0]).resolved["device"])
