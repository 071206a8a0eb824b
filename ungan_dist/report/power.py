"""What this audit could have seen: the original's own gap, and the smallest margin that Retrain's equal would pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ungan_dist.attack.evidence import Interval, Report
from ungan_dist.attack.verdicts import has_power
from ungan_dist.config.attack import AttackConfig


@dataclass(frozen=True, kw_only=True)
class MeasuredPower:
    """Power of a finished audit."""

    original_gap: Interval | None
    """Gap of the original, which was trained on the forget set; None without it."""
    leaks: bool
    """Whether the original's interval lies beyond δ. Without it, no row has a verdict."""
    smallest_delta: float
    """Smallest δ that a method equal to Retrain passes in four of five such runs."""


def measure_power(report: Report) -> MeasuredPower | None:
    """Measure the power of an audit; None if no row is scored."""
    if report.smallest_delta is None:
        return None
    original = next((row for row in report.rows if row.method == "original"), None)
    return MeasuredPower(
        original_gap=None if original is None else original.verdict.gap,
        leaks=original is not None and has_power(original.verdict.outcome),
        smallest_delta=report.smallest_delta,
    )


def get_delta(report: Report) -> float | None:
    """Return δ, the equivalence margin of the run's config, or None if the config has none."""
    return _read(report, "delta")


def get_utility_margin(report: Report) -> float | None:
    """Return the margin of utility of the run's config, or None if the config has no attack."""
    if get_delta(report) is None:
        return None
    found = _read(report, "utility_margin")
    # left out of a config at its default, so that earlier runs keep their hashes
    return AttackConfig().utility_margin if found is None else found


def _read(report: Report, name: str) -> float | None:
    value: object = report.config
    for part in ("identity", "attack", name):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None
