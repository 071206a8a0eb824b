"""Score the unlearned shadow models of a run, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ungan_dist import store
from ungan_dist.attack.estimates import KLOM
from ungan_dist.attack.evidence import Row, ULiRA
from ungan_dist.attack.klom import compare_fleets
from ungan_dist.attack.ulira import UnlearnedFleet, add_to_rows, measure_ulira
from ungan_dist.config.attack import View, list_views
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import read_facts
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit


@dataclass(frozen=True, kw_only=True)
class UnlearnedAttack:
    """U-LiRA on every method whose shadow models unlearned."""

    found: Mapping[str, ULiRA | str]
    """Measurements by method, or the reason for their absence."""
    seconds: dict[str, float]
    """T_U of all shadow models, by method."""
    klom: Mapping[str, KLOM | str] = field(default_factory=dict)
    """KLOM by method, or the reason for its absence."""

    def add_to(self, rows: Sequence[Row], delta: float) -> list[Row]:
        """Add the measurements to the rows, with warnings of hidden leaks."""
        return [replace(row, klom=self.klom.get(row.method)) for row in add_to_rows(rows, self.found, delta)]


def attack_unlearned(
    plan: Plan, targets: Sequence[TargetUnit], shadows: Sequence[int], log_odds: np.ndarray
) -> UnlearnedAttack:
    """Score the finished unlearned shadow models of a plan; the untouched ones stand for the row of the original.

    Args:
        plan: The plan of the run.
        targets: Its finished targets.
        shadows: Ids of the shadow models that have log-odds.
        log_odds: Their log-odds, [models, examples, queries].
    """
    asked = plan.record.config.attack
    if not asked.unlearned_shadows:
        return UnlearnedAttack(found={}, seconds={})
    facts = {unit.id: found for unit in plan.unlearned_shadows if (found := read_facts(unit)) is not None}
    fleets: dict[str, dict[int, UnlearnedFleet]] = {}
    seconds: dict[str, float] = {}
    for target in targets:
        attacked = target.method in ("original", *asked.unlearned_shadows) and not target.unlearning
        if target.seed >= asked.unlearned_seeds or not attacked:
            continue
        if target.method == "original":
            fleet = _make_fleet(plan, target, shadows, log_odds[:, target.draw.forget])
        else:
            units = [unit for unit in plan.unlearned_shadows if unit.target.id == target.id and unit.id in facts]
            seconds[target.method] = seconds.get(target.method, 0.0) + _add_seconds(units, facts)
            ids = [shadow for unit in units for shadow in unit.shadows]
            arrays = [store.read_array(plan.folder / unit.log_odds_file) for unit in units]
            fleet = _make_fleet(plan, target, ids, np.concatenate([log_odds[:0, target.draw.forget], *arrays]))
        fleets.setdefault(target.method, {})[target.seed] = fleet
    views = list_views(plan.record.config.shadows.queries)
    return UnlearnedAttack(
        found={method: measure_ulira(list(some.values()), asked) for method, some in fleets.items()},
        seconds={method: value for method, value in seconds.items() if value},
        klom=compare_fleets(fleets, views.index(View()) if View() in views else None),
    )


def _make_fleet(plan: Plan, target: TargetUnit, shadows: Sequence[int], log_odds: np.ndarray) -> UnlearnedFleet:
    forget = target.draw.forget
    return UnlearnedFleet(
        log_odds=log_odds,
        membership=plan.membership[np.ix_(np.array(shadows, dtype=np.int64), forget)],
        shadows=tuple(shadows),
        forget=forget,
        target=store.read_array(plan.folder / target.log_odds_file)[forget],
    )


def _add_seconds(units: Sequence[UnlearnedShadowUnit], facts: Mapping[str, dict[str, Any]]) -> float:
    return float(sum(sum(facts[unit.id].get("unlearning_seconds", ())) for unit in units))
