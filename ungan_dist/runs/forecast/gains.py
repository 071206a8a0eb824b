"""What more seeds, unlearnings, shadow models or forget examples buy, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass

from ungan_dist.attack.allocation import compare_unlearnings
from ungan_dist.attack.power import Power, auc_deviation
from ungan_dist.runs.forecast.outlook import Outlook, compare_designs

UNLEARNED_SHADOWS = "unlearned shadows"
"""Stage of U-LiRA."""


@dataclass(frozen=True, kw_only=True)
class More:
    """What twice as much of one quantity buys, and what it costs in addition."""

    power: Power
    device_hours: float


def list_gains(outlook: Outlook, unit_seconds: dict[str, float], hours: float) -> dict[str, More]:
    """List what twice as many seeds, unlearnings, shadow models or forget examples buy.

    Args:
        outlook: The outlook of the run.
        unit_seconds: Time for one model of each kind; empty if it is not known.
        hours: Device-hours of a second of one worker.
    """
    if not unit_seconds:
        return {}
    design = outlook.design
    unlearnings = design.num_seeds * outlook.num_unlearnings * _seconds_of_methods(unit_seconds)
    # a larger forget set is another run, which shares the shadow models
    targets = design.num_seeds * unit_seconds["original"] + unlearnings
    shadows = design.num_shadows * unit_seconds["shadow model"]
    costs = {"shadow models × 2": shadows, "unlearnings × 2": unlearnings}
    designs = compare_designs(design, outlook.delta, outlook.remedies, saved=outlook.saved_variance)
    return {
        name: More(power=power, device_hours=hours * costs.get(name, targets)) for name, (_, power) in designs.items()
    }


def _seconds_of_methods(unit_seconds: dict[str, float]) -> float:
    """Return the time of one unlearning by every method."""
    beside = ("shadow model", "original", "unlearned")
    return sum(
        seconds
        for name, seconds in unit_seconds.items()
        if name not in beside and not name.startswith(f"{UNLEARNED_SHADOWS}: ")
    )


def compare_numbers_of_unlearnings(outlook: Outlook, unit_seconds: dict[str, float]) -> dict[int, float]:
    """Compare what an interval costs with several unlearnings of each original; empty where that is not known."""
    if not unit_seconds or not outlook.remedies.more_seeds:
        return {}
    design = outlook.design
    examples = 2**0.5 * auc_deviation(design.num_forget, design.num_non_members)
    return compare_unlearnings(
        outlook.stages,
        0.0 if outlook.remedies.forget_list else examples,
        original_seconds=unit_seconds["original"],
        unlearning_seconds=_seconds_of_methods(unit_seconds),
    )
