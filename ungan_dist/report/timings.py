"""timings.json: T_U of every method and seed. It is not part of table.json, because it differs between runs."""

from __future__ import annotations

from typing import Any

from ungan_dist.attack.evidence import Report

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


def collect_seconds(report: Report) -> dict[str, dict[int, float]]:
    """Collect T_U by method, then by seed in increasing order. A model unlearned elsewhere has none."""
    found: dict[str, dict[int, float]] = {}
    for evidence in sorted(report.evidence, key=lambda evidence: evidence.seed):
        if evidence.method == "unlearned":
            continue
        found.setdefault(evidence.method, {})[evidence.seed] = evidence.unlearning_seconds
    return found


def average_seconds(report: Report) -> dict[str, float]:
    """Average T_U over the seeds, by method."""
    return {method: sum(found.values()) / len(found) for method, found in collect_seconds(report).items()}
