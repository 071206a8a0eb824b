"""Which stage is worth buying: another original with its unlearnings, or another unlearning of every original.

With I originals and J unlearnings of each, the variance of a mean gap is (σ_o² + σ_e² + σ_u² / J) / I. The standard
deviations are those of originals, of the examples that each seed draws anew, and of unlearnings. The cost is
I (C_o + J C_u) seconds. Their product does not depend on I. The best J is the one with the smallest product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from ungan_dist.config.checks import not_negative

NUMBERS = (1, 2, 3, 4, 6, 8)
"""Unlearnings of an original that are compared."""


@dataclass(frozen=True, kw_only=True)
class StageSpread:
    """Standard deviations of a gap by stage, in AUC."""

    originals: float
    unlearnings: float

    def __post_init__(self) -> None:
        not_negative(originals=self.originals, unlearnings=self.unlearnings)


PRIOR = StageSpread(originals=0.01, unlearnings=0.01)
"""Assumed where no finished run has measured it: both stages vary alike."""


def compare_unlearnings(
    spread: StageSpread, examples: float, *, original_seconds: float, unlearning_seconds: float
) -> dict[int, float]:
    """Compute what an interval costs with several unlearnings of each original, relative to one.

    Args:
        spread: deviations by stage.
        examples: deviation that the draw of each seed's examples causes; 0 with a forget list.
        original_seconds: time of one original.
        unlearning_seconds: time of one unlearning by all methods together.

    Returns:
        Number of unlearnings → cost of the same variance of the mean, relative to one unlearning an original.

    Examples:
        >>> costs = compare_unlearnings(
        ...     StageSpread(originals=0.01, unlearnings=0.02), 0.0, original_seconds=60.0, unlearning_seconds=10.0
        ... )
        >>> {number: round(cost, 2) for number, cost in costs.items()}
        {1: 1.0, 2: 0.69, 3: 0.6, 4: 0.57, 6: 0.57, 8: 0.6}
    """

    def cost(number: int) -> float:
        variance = spread.originals**2 + examples**2 + spread.unlearnings**2 / number
        return variance * (original_seconds + number * unlearning_seconds)

    return {number: cost(number) / (cost(1) or 1.0) for number in NUMBERS}


def read_stage_spread(rows: Sequence[Mapping[str, Any]]) -> StageSpread | None:
    """Read the deviations of the gaps from the rows of a finished run's table; None where it has no split."""
    splits = [row["stages"]["gap"] for row in rows if "gap" in row.get("stages", {})]
    known = [split for split in splits if split["originals"] is not None]
    if not known:
        return None
    originals, unlearnings = (
        sqrt(sum(split[stage]["value"] ** 2 for split in known) / len(known)) for stage in ("originals", "unlearnings")
    )
    return StageSpread(originals=originals, unlearnings=unlearnings)
