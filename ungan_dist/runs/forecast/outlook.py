"""Count a run's work and compute its statistical power, without training anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.attack.allocation import PRIOR, StageSpread, read_stage_spread
from ungan_dist.attack.evidence import Remedies
from ungan_dist.attack.intervals import SEEDS_FOR_T
from ungan_dist.attack.power import Design, Power, estimate_power, measure_largest_spread
from ungan_dist.attack.verdicts import VERDICT_LEVEL
from ungan_dist.config.attack import ATTACKS
from ungan_dist.report.power import describe_smallest_delta
from ungan_dist.runs.finished import Finished
from ungan_dist.runs.given import find_remedies
from ungan_dist.runs.operations import describe_engine, describe_kernels
from ungan_dist.runs.plan import Plan, Work
from ungan_dist.runs.record import RunRecord, read_run
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.units import Unit, missing
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit
from ungan_dist.runs.views import narrow, split_place

QUICK_LIMIT = (
    "a quick audit finds gross leaks alone: it has no shadow models, and calls no method equivalent. For a verdict, "
    "leave --attack.quick out"
)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Amount of work and power of a run."""

    folder: Path
    """Folder of the report."""
    sizes: dict[str, int]
    """Number of examples in each set of the first seed."""
    num_models: int
    """Shadow models, originals and unlearned models in total."""
    num_models_done: int
    num_shadows_done: int
    num_unlearned_shadows: int
    """Unlearnings of shadow models for U-LiRA, among the models."""
    num_unlearned_shadows_done: int
    num_units: int
    num_units_done: int
    delta: float
    """The margin of the verdicts."""
    is_quick: bool = False
    """Whether there are no shadow models, and no method can be called equivalent."""
    design: Design
    power: Power
    spread_from: str
    """Source of the spread between seeds."""
    remedies: Remedies
    stages: StageSpread = PRIOR
    """Deviations of a gap between originals, and between unlearnings of one original."""
    stages_from: str = ""
    """Source of the stages."""
    num_unlearnings: int = 1
    """Unlearnings of each original."""
    kernels: dict[str, str] = field(default_factory=dict)
    """Implementation of each operation, and why it was chosen."""
    engine: str = ""
    """How the steps of models are executed, and why."""
    warnings: tuple[str, ...] = ()
    """Settings that are allowed and probably not meant."""

    @property
    def saved_variance(self) -> float:
        """Variance between seeds that twice as many unlearnings would save; 0 where it is not measured."""
        return 0.0 if self.stages is PRIOR else self.stages.unlearnings**2 / (2 * self.num_unlearnings)


def make_outlook(plan: Plan, *, level: float = VERDICT_LEVEL) -> Outlook:
    """Count the finished and missing units of a plan, and compute its power with intervals of a level."""
    todo = missing(plan.units)
    models, shadows, unlearned = (
        sum(unit.num_models for unit in todo if isinstance(unit, kind))
        for kind in (Unit, ShadowUnit, UnlearnedShadowUnit)
    )
    counts = (models, shadows, unlearned, len(todo))
    return _make_outlook(plan.record, plan.report_folder, plan.work, todo=counts, level=level)


def read_outlook(finished: Finished) -> Outlook | None:
    """Return the outlook of a finished report from its record, without its data; ``None`` for an earlier version's."""
    try:
        work = Work(**finished.work or {})
        run, place = split_place(finished.folder)
        record = narrow(read_run(run), run, place)
        return _make_outlook(record, finished.folder, work, todo=(0, 0, 0, 0))
    except (KeyError, TypeError, ValueError):  # absent, or written by somebody else
        return None


def _make_outlook(
    record: RunRecord, folder: Path, work: Work, *, todo: tuple[int, int, int, int], level: float = VERDICT_LEVEL
) -> Outlook:
    """Make an outlook; ``todo`` counts the models, shadow models, unlearned ones and units without a result."""
    config = record.config
    num_forget, num_non_members = work.sizes["forget"], work.sizes["non-members"]
    rows = _read_rows(split_place(folder)[0])
    spread, spread_from = _spread(rows, num_forget, num_non_members)
    stages = read_stage_spread(rows)
    design = Design(
        num_forget=num_forget,
        num_non_members=num_non_members,
        num_seeds=config.num_seeds,
        num_shadows=config.shadows.num_models,
        spread=spread,
        level=level,
        num_attacks=len(ATTACKS) + (config.split.rule.is_class and "retrain" in config.methods),
    )
    return Outlook(
        folder=folder,
        sizes=work.sizes,
        num_models=work.num_models,
        num_models_done=work.num_models - todo[0],
        num_shadows_done=config.shadows.num_models - todo[1],
        num_unlearned_shadows=work.num_unlearned_shadows,
        num_unlearned_shadows_done=work.num_unlearned_shadows - todo[2],
        num_units=work.num_units,
        num_units_done=work.num_units - todo[3],
        delta=config.attack.delta,
        is_quick=config.attack.quick,
        design=design,
        power=estimate_power(design, config.attack.delta),
        spread_from=spread_from,
        stages=stages or PRIOR,
        stages_from="in this run's table" if stages else "assumed before a run with several unlearnings",
        num_unlearnings=config.num_unlearnings,
        remedies=find_remedies(config),
        kernels=describe_kernels(record),
        engine=describe_engine(record),
        warnings=config.train.list_warnings(),
    )


def summary_lines(outlook: Outlook, *, has_more_looks: bool = False) -> Iterator[str]:
    """Summarise an outlook in two lines, for the start of a run's log.

    Args:
        outlook: The outlook.
        has_more_looks: Whether the run is extended by itself if this is too little to decide.
    """
    yield (
        f"{outlook.num_models} models ({outlook.design.num_shadows} shadow), {outlook.num_models_done} done; "
        f"{outlook.folder}"
    )
    if outlook.is_quick:
        yield QUICK_LIMIT
        return
    half_width, smallest = outlook.power.half_width, outlook.power.smallest_delta
    remedy = (
        "If rows are undecided, the next look follows"
        if has_more_looks
        else f"{_remedy(outlook.remedies)}, or expect inconclusive verdicts"
    )
    yield (
        f"expected {100 * outlook.design.level:.4g} % interval of a gap: ±{half_width:.3f}. {describe_margin(outlook)}"
        + ("" if smallest <= outlook.delta else f" {remedy}")
    )


def describe_margin(outlook: Outlook) -> str:
    """State the smallest margin at which the run will recognise a method as equivalent, as its report does."""
    return describe_smallest_delta(outlook.power.smallest_delta, outlook.delta, outlook.design.num_attacks)


def _remedy(remedies: Remedies) -> str:
    if not remedies.forget_list:
        more = "forget more classes" if remedies.forgets_classes else remedies.amount_option
        return f"Raise num_seeds or {more}" if more else "Raise num_seeds"
    return "Raise num_seeds or use a longer forget list" if remedies.more_seeds else "Use a longer forget list"


def compare_designs(
    design: Design, delta: float, remedies: Remedies, *, saved: float = 0.0
) -> dict[str, tuple[Design, Power]]:
    """Compute the power with twice as many seeds, unlearnings, shadow models or forget examples.

    Args:
        design: The run's own design.
        delta: The margin of the verdicts.
        remedies: What the run allows.
        saved: Variance between seeds that twice as many unlearnings would save; 0 where it is not measured.
    """
    changes = {
        "shadow models × 2": {"num_shadows": 2 * design.num_shadows},
        "forget list × 2" if remedies.forget_list else "forget set × 2": {"num_forget": 2 * design.num_forget},
    }
    if saved:
        changes = {"unlearnings × 2": {"spread": max(0.0, design.spread**2 - saved) ** 0.5}} | changes
    if remedies.more_seeds:
        changes = {"seeds × 2": {"num_seeds": 2 * design.num_seeds}} | changes
    designs = {name: dataclasses.replace(design, **change) for name, change in changes.items()}
    return {name: (changed, estimate_power(changed, delta)) for name, changed in designs.items()}


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of the run's own table; empty if there is none."""
    try:
        rows = store.read_json(folder / "table.json")["rows"]
        return [row for row in rows if row["verdict"]["gap"] is None or row["verdict"]["gap"]["per_seed"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _spread(rows: list[dict[str, Any]], num_forget: int, num_non_members: int) -> tuple[float, str]:
    """Estimate the spread between seeds from the run's own table, beyond what its examples explain."""
    if not rows:
        return 0.0, "unknown before a run, assumed 0"
    gaps: dict[str, list[list[float]]] = {}
    for row in (row for row in rows if row["verdict"]["gap"]):
        # tables of earlier versions have LiRA alone
        for name, found in row.get("attacks", {"lira": row["verdict"]}).items():
            gaps.setdefault(name, []).append(found["gap"]["per_seed"])
    spread = measure_largest_spread(gaps, num_forget, num_non_members)
    if spread is None:
        return 0.0, f"unknown below {SEEDS_FOR_T} seeds, assumed 0"
    return spread, f"{spread:.3f} in this run's table"
