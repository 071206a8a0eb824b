"""An audit where its config says: on this machine, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ungan_dist import pipeline, progress
from ungan_dist.config import AuditConfig
from ungan_dist.errors import ConfigError
from ungan_dist.evidence import Report
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.mirror import Mirror


def audit(config: AuditConfig, *, tell: progress.Report = progress.silent) -> Report:
    """Trains, unlearns, attacks and reports; what a run of the same config has done before is not done again.

    Args:
        config: a recipe's, changed as wanted; ``config.cluster`` says where. ``config.output`` may be the URL of object
            storage: each machine then works in a folder of its own.
        tell: told of every step forward.

    Raises:
        ConfigError: wrong config or input, no such cluster or storage, or too few resources; nothing was computed.
        Unfinished: storage is full or out of reach, or too little succeeded for a report; run again to continue.
    """
    if not is_url(config.output):
        return _audit(config, None, tell)
    if config.train.num_workers > 1:
        raise ConfigError(
            f"train.num_workers {config.train.num_workers} keeps the state of a training in a folder that all nodes "
            f"share, which {config.output} is not: give --output such a folder, or train.num_workers 1"
        )
    from ungan_dist.mirror import connect

    mirror = connect(config.output, cache=config.execution.cache)
    return _audit(dataclasses.replace(config, output=str(mirror.folder)), mirror, tell)


def _audit(config: AuditConfig, mirror: Mirror | None, tell: progress.Report) -> Report:
    if config.cluster == "local":
        return pipeline.audit(config, tell=tell, mirror=mirror)
    from ungan_dist.cluster.fleet import Fleet

    there = {} if mirror is None else _by_way_of(mirror, config)
    with Fleet(config.fleet, address=config.cluster, tell=tell, **there) as fleet:
        run_units = fleet.run_units
        if config.train.num_workers > 1:
            from ungan_dist.cluster.ddp import beside

            run_units = beside(fleet, config, tell)
        return pipeline.audit(config, run_units=run_units, device=fleet.room.device, tell=tell, mirror=mirror)


def _by_way_of(mirror: Mirror, config: AuditConfig) -> dict[str, Any]:
    """How workers that share no folder with the driver compute, and how it sees what they have done."""
    from ungan_dist.remote import ArrivedFrom, ExecuteThere

    return {
        "execute": ExecuteThere(url=mirror.url, cache=config.execution.cache),
        "is_done": ArrivedFrom(mirror=mirror),
    }
