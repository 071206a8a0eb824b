"""What this audit could have seen: the original's own gap, and the smallest margin that Retrain's equal would pass."""

from __future__ import annotations

from dataclasses import dataclass

from ungan_dist.attack.evidence import Interval, Report, Row
from ungan_dist.attack.summary import get_delta as get_delta
from ungan_dist.attack.summary import read_attack_option
from ungan_dist.attack.verdicts import TOO_WIDE, find_clearest, has_power, list_corrected_gaps
from ungan_dist.config.attack import ATTACK_NAMES, LARGEST_DELTA, AttackConfig
from ungan_dist.report.cells import format_delta, format_gap, format_signed


@dataclass(frozen=True, kw_only=True)
class MeasuredPower:
    """Power of a finished audit."""

    original_gap: Interval | None
    """Gap of the original, which was trained on the forget set; None without it."""
    leaks: bool
    """Whether the original's interval lies beyond δ. Without it, no row has a verdict."""
    smallest_delta: float
    """Smallest δ that a method equal to Retrain passes by all attacks in four of five such runs."""


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


def get_utility_margin(report: Report) -> float | None:
    """Return the margin of utility of the run's config, or None if the config has no attack."""
    if get_delta(report) is None:
        return None
    found = read_attack_option(report, "utility_margin")
    # left out of a config at its default, so that earlier runs keep their hashes
    return AttackConfig().utility_margin if found is None else found


def describe_power(report: Report) -> str:
    """State δ, the original's own gap, and the smallest margin that a method equal to Retrain would pass."""
    power = measure_power(report)
    if power is None:
        return ""
    value = get_delta(report)
    margin = "" if value is None else f"δ = {value:g}. "
    num_attacks = max(len(row.attacks) for row in report.rows)
    smallest = describe_smallest_delta(power.smallest_delta, value, num_attacks)
    normal = describe_normality(report)
    original = next((row for row in report.rows if row.method == "original"), None)
    if original is None or original.verdict.gap is None:
        return f"{margin}Power: unknown without the original. {smallest}{normal}"
    attack, gap = _find_clearest_gap(original, original.verdict.gap)
    of = "" if attack == "lira" else f" for {ATTACK_NAMES[attack]}"
    found = (
        f"the original's own gap{of} is {format_signed(gap.mean)}, {100 * gap.level:.4g} % interval {format_gap(gap)}"
    )
    seen = "beyond δ, so the attack sees its leak" if power.leaks else "which does not exceed δ"
    return f"{margin}Power: {'' if power.leaks else 'none, '}{found}, {seen}. {smallest}{normal}"


def describe_smallest_delta(smallest: float, requested: float | None, num_attacks: int) -> str:
    """State the smallest margin at which a run recognises a method as equivalent, and the requested one.

    Args:
        smallest: Smallest δ that a method equal to Retrain passes in four of five such runs.
        requested: δ of the config, if it is known.
        num_attacks: Attacks that all must find the method equivalent.

    Examples:
        >>> describe_smallest_delta(0.1374, 0.05, 4)
        'This run recognises even a perfect method as equivalent only within ±0.138 (all 4 attacks, in four of five \
such runs); you asked for ±0.05.'
    """
    within = f"a perfect method as equivalent within ±{format_delta(smallest)}"
    if requested is None or smallest > requested:
        within = f"even a perfect method as equivalent only within ±{format_delta(smallest)}"
    if smallest >= LARGEST_DELTA:
        within = f"not even a perfect method as equivalent at any δ below {LARGEST_DELTA:g}"
    by = f"all {num_attacks} attacks, " if num_attacks > 1 else ""
    asked = "" if requested is None else f"; you asked for ±{requested:g}"
    return f"This run recognises {within} ({by}in four of five such runs){asked}."


def describe_normality(report: Report) -> str:
    """State how many Gaussians of LiRA the Anderson–Darling test rejects, as a sentence after a blank."""
    found = report.normality
    if found is None:
        return ""
    return (
        f" An Anderson–Darling test at 5 % finds {_in_per_cent(found.rejected_in)} of the IN and "
        f"{_in_per_cent(found.rejected_out)} of the OUT log-odds not Gaussian."
    )


def _in_per_cent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _find_clearest_gap(original: Row, of_lira: Interval) -> tuple[str, Interval]:
    """Return the attack that sees most of the original's leak, and the interval from which power is concluded."""
    corrected = list_corrected_gaps(original.attacks)
    if not corrected or original.verdict.outcome == TOO_WIDE:
        return "lira", of_lira
    attack = find_clearest(corrected)
    return attack, corrected[attack]
