"""An audit where its config says: on this machine, or on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ungan_dist import pipeline, progress
from ungan_dist.config import AuditConfig
from ungan_dist.evidence import Report

if TYPE_CHECKING:
    from ungan_dist.forecast import Forecast
    from ungan_dist.probe import Cost, ProbeUnit
    from ungan_dist.units import Done, Failed


def audit(config: AuditConfig, *, tell: progress.Report = progress.silent) -> Report:
    """Trains, unlearns, attacks and reports; what a run of the same config has done before is not done again.

    Args:
        config: a recipe's, changed as wanted; ``config.cluster`` says where.
        tell: told of every step forward.

    Raises:
        ConfigError: wrong config or input, no such cluster, or too few resources; nothing was computed.
        Unfinished: storage is full, or too little succeeded for a report; run again to continue.
    """
    if config.cluster == "local":
        return pipeline.audit(config, tell=tell)
    from ungan_dist.cluster.fleet import Fleet

    with Fleet(config.fleet, address=config.cluster, tell=tell) as fleet:
        run_units = fleet.run_units
        if config.train.num_workers > 1:
            from ungan_dist.cluster.ddp import beside

            run_units = beside(fleet, config, tell)
        return pipeline.audit(config, run_units=run_units, device=fleet.room.device, tell=tell)


def forecast(config: AuditConfig, *, seconds: float, begun: Cost) -> Forecast:
    """What :func:`audit` would cost with this config, where the config says; what is trained for it is thrown away.

    Args:
        seconds: about what the probe may take.
        begun: the clocks when the command started.

    Raises:
        ConfigError: wrong config or input, no such cluster, too few resources, or a probe that failed.
    """
    from ungan_dist.forecast import forecast, plan_of
    from ungan_dist.forecast_pool import run_probes
    from ungan_dist.pool import num_processes

    if config.cluster == "local":
        plan = plan_of(config, None)
        workers = num_processes(config.execution.num_processes)
        return forecast(plan, run_probes, num_workers=workers, seconds=seconds, begun=begun)
    from ungan_dist.cluster.fleet import Fleet
    from ungan_dist.probe import Cost, execute, is_done, read

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
