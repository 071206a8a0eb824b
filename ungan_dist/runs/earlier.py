"""Find the runs that versions with another training made of a config."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import RESULTS_VERSION
from ungan_dist.runs.given import GivenSets
from ungan_dist.runs.record import describe_earlier, folder_of
from ungan_dist.runs.settled import is_made, settle_unit_size


def find_earlier_versions(config: AuditConfig, hash_of: Callable[..., str], sets: GivenSets | None) -> list[str]:
    """Describe the runs of this config that versions with another training made in the output folder."""
    if config.execution.run_name is not None:  # refused when the run is opened
        return []
    found: list[Path] = []
    for version in range(1, RESULTS_VERSION):
        for given_hash in {sets.given_hash, sets.earlier_hash} if sets else {""}:
            hash_then = functools.partial(hash_of, given_hash=given_hash, results_version=version)
            for asked in (config, settle_unit_size(config, hash_then)):
                folder = folder_of(asked, hash_then(asked))
                if folder not in found and is_made(asked, hash_then(asked)):
                    found.append(folder)
    return [describe_earlier(folder) for folder in found]
