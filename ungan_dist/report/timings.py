"""timings.json: T_U of every method and seed. It is not part of table.json, because it differs between runs."""

from __future__ import annotations

from typing import Any

from ungan_dist.attack.evidence import Report
from ungan_dist.attack.summary import average_seconds, collect_seconds

SCHEMA_VERSION = 1


def build_timings(report: Report) -> dict[str, Any]:
    """Build the seconds of unlearning alone, by method and seed, with their mean."""
    means = average_seconds(report)
    return {
        "schema": "ungan_dist/timings",
        "schema_version": SCHEMA_VERSION,
        "run_hash": report.run_hash,
        "unit": "seconds",
        "methods": {
            method: {"per_seed": {str(seed): value for seed, value in per_seed.items()}, "mean": means[method]}
            for method, per_seed in collect_seconds(report).items()
        },
        **({"unlearned_shadows": report.unlearned_seconds} if report.unlearned_seconds else {}),
    }
