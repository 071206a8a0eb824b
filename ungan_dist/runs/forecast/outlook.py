"""What is known of a run before it starts, at no cost: how much there is to do, and what it can conclude."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ungan_dist import store
from ungan_dist.attack.evidence import Levers
from ungan_dist.attack.intervals import SEEDS_FOR_T
from ungan_dist.attack.power import Design, Power, auc_deviation, power
from ungan_dist.runs.given import levers_of
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.units import Unit, missing


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A run before it starts."""

    folder: Path
    num_models: int
    """Shadow models, originals and unlearned models in all."""
    num_models_done: int
    num_shadows_done: int
    num_units: int
    num_units_done: int
    delta: float
    """The margin that is asked for."""
    design: Design
    power: Power
    spread_from: str
    """Where the spread between seeds is taken from, in words."""
    levers: Levers


def outlook(plan: Plan) -> Outlook:
    """Counts what is done, and computes the power."""
    config = plan.record.config
    units: list[Unit] = [*plan.targets, *plan.shadows]
    todo = missing(units)
    num_models, to_train = (sum(unit.num_models for unit in some) for some in (units, todo))
    shadows_to_train = sum(unit.num_models for unit in missing(plan.shadows))
    draw = plan.draws[0]
    spread, spread_from = _spread(plan.folder, len(draw.forget), len(draw.non_members))
    design = Design(
        num_forget=len(draw.forget),
        num_non_members=len(draw.non_members),
        num_seeds=config.num_seeds,
        num_shadows=config.shadows.num_models,
        spread=spread,
    )
    return Outlook(
        folder=plan.folder,
        num_models=num_models,
        num_models_done=num_models - to_train,
        num_shadows_done=config.shadows.num_models - shadows_to_train,
        num_units=len(units),
        num_units_done=len(units) - len(todo),
        delta=config.attack.delta,
        design=design,
        power=power(design, config.attack.delta),
        spread_from=spread_from,
        levers=levers_of(config),
    )


def lines(known: Outlook) -> Iterator[str]:
    """Two lines for a run's beginning."""
    yield (
        f"{known.num_models} models ({known.design.num_shadows} shadow) in {known.num_units} units, "
        f"{known.num_units_done} done; {known.folder}"
    )
    within = known.power.smallest_delta <= known.delta
    yield (
        f"the gap's 90 % interval will be about ±{known.power.half_width:.3f} wide; a method equal to Retrain passes "
        f"δ ≥ {known.power.smallest_delta:.3f} in four runs of five, asked is {known.delta:g}"
        + ("" if within else f": {_remedy(known.levers)}, or expect inconclusive verdicts")
    )


def _remedy(levers: Levers) -> str:
    if not levers.forget_list:
        return "raise num_seeds or forget_fraction"
    return "raise num_seeds or give a longer forget list" if levers.more_seeds else "give a longer forget list"


def more(design: Design, delta: float, levers: Levers) -> dict[str, tuple[Design, Power]]:
    """What twice as much of one thing would buy, by its name; of what there can be more."""
    changes = {
        "shadow models × 2": {"num_shadows": 2 * design.num_shadows},
        "forget list × 2" if levers.forget_list else "forget set × 2": {"num_forget": 2 * design.num_forget},
    }
    if levers.more_seeds:
        changes = {"seeds × 2": {"num_seeds": 2 * design.num_seeds}} | changes
    designs = {name: dataclasses.replace(design, **change) for name, change in changes.items()}
    return {name: (changed, power(changed, delta)) for name, changed in designs.items()}


def _spread(folder: Path, num_forget: int, num_non_members: int) -> tuple[float, str]:
    """What the gaps of a run's own table differ by between seeds, less what their examples explain."""
    try:
        rows = store.read_json(folder / "table.json")["rows"]
        gaps = [row["verdict"]["gap"]["per_seed"] for row in rows if row["verdict"]["gap"]]
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, "not known before a run: taken as 0"
    variances = [np.var(values, ddof=1) for values in gaps if len(values) >= SEEDS_FOR_T]
    if not variances:
        return 0.0, f"this run has fewer than {SEEDS_FOR_T} seeds so far: taken as 0"
    beyond = float(np.mean(variances)) - 2 * auc_deviation(num_forget, num_non_members) ** 2
    return max(0.0, beyond) ** 0.5, f"{max(0.0, beyond) ** 0.5:.3f} in this run's table so far"
