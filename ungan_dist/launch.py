"""An audit where its config says: on this machine, or on a Ray cluster."""

from __future__ import annotations

from ungan_dist import pipeline, progress
from ungan_dist.config import AuditConfig
from ungan_dist.evidence import Report


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
