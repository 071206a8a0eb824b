"""An audit where its config says: on this machine, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ungan_dist.attack.evidence import Report
from ungan_dist.config.audit import AuditConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs import pipeline, progress
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.runs.forecast.forecast import Forecast
    from ungan_dist.runs.forecast.probe import Cost, ProbeUnit
    from ungan_dist.runs.storage.mirror import Mirror
    from ungan_dist.runs.units import Done, Failed


def audit(config: AuditConfig, *, on_progress: progress.ProgressCallback = progress.silent) -> Report:
    """Trains, unlearns, attacks and reports; what a run of the same config has done before is not done again.

    Args:
        config: a recipe's, changed as wanted; ``config.cluster`` says where. ``config.output`` may be the URL of object
            storage: each machine then works in a folder of its own.
        on_progress: told of every step forward.

    Raises:
        ConfigError: wrong config or input, no such cluster or storage, or too few resources; nothing was computed.
        Unfinished: storage is full or out of reach, or too little succeeded for a report; run again to continue.
    """
    if not is_url(config.output):
        return _audit(config, None, on_progress)
    if config.train.num_workers > 1:
        raise ConfigError(
            f"train.num_workers {config.train.num_workers} keeps the state of a training in a folder that all nodes "
            f"share, which {config.output} is not: give --output such a folder, or train.num_workers 1"
        )
    from ungan_dist.runs.storage.mirror import connect

    mirror = connect(config.output, cache=config.execution.cache)
    return _audit(dataclasses.replace(config, output=str(mirror.folder)), mirror, on_progress)


def _audit(config: AuditConfig, mirror: Mirror | None, on_progress: progress.ProgressCallback) -> Report:
    if config.cluster == "local":
        return pipeline.audit(config, on_progress=on_progress, mirror=mirror)
    from ungan_dist.cluster.fleet import Fleet

    there = {} if mirror is None else _by_way_of(mirror, config)
    with Fleet(config.fleet, address=config.cluster, on_progress=on_progress, **there) as fleet:
        run_units = fleet.run_units
        if config.train.num_workers > 1:
            from ungan_dist.cluster.ddp import beside

            run_units = beside(fleet, config, on_progress)
        return pipeline.audit(
            config, run_units=run_units, device=fleet.room.device, on_progress=on_progress, mirror=mirror
        )


def _by_way_of(mirror: Mirror, config: AuditConfig) -> dict[str, Any]:
    """How workers that share no folder with the driver compute, and how it sees what they have done."""
    from ungan_dist.runs.storage.remote import ArrivedFrom, ExecuteThere

    return {
        "execute": ExecuteThere(url=mirror.url, cache=config.execution.cache),
        "is_done": ArrivedFrom(mirror=mirror),
    }


def forecast(config: AuditConfig, *, seconds: float, begun: Cost) -> Forecast:
    """What :func:`audit` would cost with this config, where the config says; what is trained for it is thrown away.

    Args:
        seconds: about what the probe may take.
        begun: the clocks when the command started.

    Raises:
        ConfigError: wrong config or input, no such cluster, too few resources, or a probe that failed.
    """
    if config.train.num_workers > 1:
        raise ConfigError(
            f"plan times what each unit takes one process, not what train.num_workers {config.train.num_workers} take "
            f"that share its batches: plan without it, or with --no-probe for models and power alone"
        )
    from ungan_dist.runs.forecast.forecast import forecast, plan_of
    from ungan_dist.runs.forecast.pool import run_probes
    from ungan_dist.runs.pool import num_processes

    if config.cluster == "local":
        plan = plan_of(config, None)
        workers = num_processes(config.execution.num_processes)
        return forecast(plan, run_probes, num_workers=workers, seconds=seconds, begun=begun)
    from ungan_dist.cluster.fleet import Fleet
    from ungan_dist.runs.forecast.probe import Cost, execute, is_done, read

    with Fleet(config.fleet, address=config.cluster, execute=execute, is_done=is_done) as fleet:
        room = fleet.room

        def run_on_fleet(probes: Sequence[ProbeUnit]) -> tuple[list[Done | Failed], Cost]:
            start = time.monotonic()
            outcomes = list(fleet.run_units(probes))
            done = [read(outcome.unit).elapsed.seconds for outcome in outcomes if outcome.kind == "done"]
            starting = time.monotonic() - start - max(done, default=0.0)
            return outcomes, Cost(max(0.0, starting), 0.0)

        return forecast(
            plan_of(config, room.device),
            run_on_fleet,
            num_workers=room.num_workers,
            seconds=seconds,
            begun=begun,
            devices_per_worker=room.gpus_per_worker or room.cpus_per_worker,
            shared=True,
        )
