"""Score the targets of a run: against its shadow models, or in a quick audit by their outputs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64, Int

from ungan_dist import store
from ungan_dist.attack.evidence import Evidence, Normality, RecordPValues
from ungan_dist.attack.further import fit_reference_models
from ungan_dist.attack.lira import ShadowFits, examples_per_chunk, fit_shadows
from ungan_dist.attack.moments import Moments, compute_moments
from ungan_dist.attack.normality import measure_normality
from ungan_dist.attack.records import measure_p_values
from ungan_dist.attack.retrained import RetrainedModels
from ungan_dist.attack.sensitivity import list_smaller
from ungan_dist.config.attack import AttackConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import read_facts
from ungan_dist.runs.unlearned_attack import UnlearnedAttack, attack_unlearned


class Scorer(Protocol):
    """Scores targets, and holds what was found about the shadow models."""

    num_shadows: int
    unlearned: UnlearnedAttack
    """U-LiRA, as far as shadow models unlearned."""
    normality: Normality | None
    smaller: dict[int, ShadowFits]
    """Number of shadow models → the fits of the first so many."""

    def score(self, unit: TargetUnit) -> Evidence:
        """Score a finished target."""
        ...


class ShadowScorer:
    """Scores targets by LiRA and the other attacks that read the log-odds of shadow models."""

    def __init__(self, plan: Plan, present: Sequence[ShadowUnit], targets: Sequence[TargetUnit]) -> None:
        """Fit the finished shadow models.

        Args:
            plan: The plan of the run.
            present: Its finished units of shadow models.
            targets: Its finished targets.
        """
        attack = plan.record.config.attack
        log_odds, membership = read_shadows(plan, present)
        shadows = [shadow for unit in present for shadow in unit.shadows[: unit.num_models]]
        self.num_shadows = len(membership)
        self.unlearned = attack_unlearned(plan, targets, shadows, log_odds)
        self.normality: Normality | None = measure_normality(log_odds, membership)
        self._plan = plan
        self._fits = fit(log_odds, membership, attack)
        self.smaller = {
            number: fit(log_odds[:number], membership[:number], attack) for number in list_smaller(len(membership))
        }
        self._references = fit_reference_models(log_odds, membership, offline=attack.mode != "online")
        draws = [unit.draw for unit in targets]
        queried = np.unique(np.concatenate([part for draw in draws for part in (draw.forget, draw.non_members)]))
        self._out = _measure_out_models(queried, log_odds, membership)
        self._retrained = _read_retrained(plan, targets) if plan.split.has_classes else None

    def score(self, unit: TargetUnit) -> Evidence:
        """Score a finished target."""
        target = store.read_array(self._plan.folder / unit.log_odds_file)
        return _make_evidence(
            self._plan,
            unit,
            target,
            scores=self._fits.score(target),
            further=self._references.score(target, unit.draw.non_members) | self._score_by_retrained(unit, target),
            p_values=self._out.p_values(self._plan, unit, target),
        )

    def _score_by_retrained(self, unit: TargetUnit, target: np.ndarray) -> dict[str, Float64[np.ndarray, " pool"]]:
        if self._retrained is None or not self._retrained.log_odds:
            return {}
        return {"retrain_loss": self._retrained.score(unit.seed, target.mean(1, dtype=np.float64))}


class QuickScorer:
    """Scores targets by the outputs of the audited models alone."""

    def __init__(self, plan: Plan, targets: Sequence[TargetUnit]) -> None:
        """Read the retrained models, relative to which losses are calibrated.

        Args:
            plan: The plan of the run.
            targets: Its finished targets.
        """
        self.num_shadows = 0
        self.unlearned = UnlearnedAttack(found={}, seconds={})
        self.normality: Normality | None = None
        self.smaller: dict[int, ShadowFits] = {}
        self._plan = plan
        self._retrained = {unit.seed: self._read_log_odds(unit) for unit in targets if unit.method == "retrain"}

    def score(self, unit: TargetUnit) -> Evidence:
        """Score a finished target."""
        phi = self._read_log_odds(unit)
        modified, plain = store.read_array(self._plan.folder / unit.entropies_file).astype(np.float64).T
        further = {"modified_entropy": -modified, "entropy": -plain}
        if unit.seed in self._retrained:
            further["calibrated_loss"] = phi - self._retrained[unit.seed]
        target = store.read_array(self._plan.folder / unit.log_odds_file)
        return _make_evidence(self._plan, unit, target, scores=phi, further=further, attack="loss")

    def _read_log_odds(self, unit: TargetUnit) -> Float64[np.ndarray, " pool"]:
        return store.read_array(self._plan.folder / unit.log_odds_file).mean(1, dtype=np.float64)


def refuse_quick(attack: AttackConfig) -> None:
    """Refuse results of single examples of a quick audit.

    Raises:
        ConfigError: The run has no shadow models.
    """
    if attack.quick:
        raise ConfigError(
            "a quick audit has no shadow models, which results of single examples need: run it without --attack.quick"
        )


def read_shadows(plan: Plan, units: Sequence[ShadowUnit]) -> tuple[np.ndarray, np.ndarray]:
    """Read the log-odds of committed shadow models, [models, examples, queries], and their membership."""
    log_odds = store.read_arrays([plan.folder.parent / unit.log_odds_file for unit in units])
    if any(unit.num_surplus for unit in units):
        log_odds = log_odds[[row < unit.num_models for unit in units for row in range(len(unit.shadows))]]
    return log_odds, plan.membership[[shadow for unit in units for shadow in unit.shadows[: unit.num_models]]]


def fit(
    log_odds: np.ndarray, membership: np.ndarray, attack: AttackConfig, *, leave_out: Sequence[int] = ()
) -> ShadowFits:
    """Fit shadow models as a config asks, without those in ``leave_out``."""
    return fit_shadows(
        log_odds,
        membership,
        center=attack.center,
        variance=attack.variance,
        mode=attack.mode,
        sigma_floor=attack.sigma_floor,
        leave_out=leave_out,
    )


class _OutModels(NamedTuple):
    """Moments of the OUT models' log-odds on every example that some seed forgets or never sees."""

    positions: Int[np.ndarray, " queried"]
    moments: Moments

    def p_values(self, plan: Plan, unit: TargetUnit, log_odds: np.ndarray) -> RecordPValues:
        forget, non_members = (
            self._measure(part, log_odds, plan.split.pool) for part in (unit.draw.forget, unit.draw.non_members)
        )
        return replace(forget, non_member_p=non_members.p)

    def _measure(self, part: np.ndarray, log_odds: np.ndarray, pool: np.ndarray) -> RecordPValues:
        chosen = np.searchsorted(self.positions, part)
        moments = Moments(*(values[chosen] for values in self.moments))
        return measure_p_values(log_odds[part].mean(1, dtype=np.float64), moments, pool[part])


def _measure_out_models(positions: np.ndarray, log_odds: np.ndarray, membership: np.ndarray) -> _OutModels:
    step = examples_per_chunk(len(membership), log_odds.shape[2])
    chunks = [positions[start : start + step] for start in range(0, len(positions), step)]
    found = [compute_moments(log_odds[:, some].mean(2, dtype=np.float64), ~membership[:, some]) for some in chunks]
    return _OutModels(positions, Moments(*(np.concatenate(values) for values in zip(*found, strict=True))))


def _make_evidence(
    plan: Plan,
    unit: TargetUnit,
    target: np.ndarray,
    *,
    scores: Float64[np.ndarray, " pool"],
    further: Mapping[str, Float64[np.ndarray, " pool"]],
    p_values: RecordPValues | None = None,
    attack: str = "lira",
) -> Evidence:
    facts = read_facts(unit)
    assert facts is not None
    return Evidence(
        method=unit.method,
        seed=unit.seed,
        unlearning=unit.unlearning,
        accuracy=facts["accuracy"],
        log_odds=target,
        log_odds_unseen=store.read_array(plan.folder / unit.unseen_file),
        scores=scores,
        retain=unit.draw.retain,
        forget=unit.draw.forget,
        non_members=unit.draw.non_members,
        curves=facts["curves"],
        unlearning_seconds=facts["unlearning_seconds"],
        p_values=p_values,
        further_scores=dict(further),
        attack=attack,
        outputs=_read_kept(plan, unit, unit.outputs_file),
        relearning=_read_kept(plan, unit, unit.relearning_file),
    )


def _read_retrained(plan: Plan, targets: Sequence[TargetUnit]) -> RetrainedModels:
    """Read the log-odds of the retrained models, mean over the queries and over the retrainings of a seed."""
    found: dict[int, list[np.ndarray]] = {}
    for unit in targets:
        if unit.method == "retrain":
            values = store.read_array(plan.folder / unit.log_odds_file).mean(1, dtype=np.float64)
            found.setdefault(unit.seed, []).append(values)
    return RetrainedModels(log_odds={seed: np.mean(values, axis=0) for seed, values in found.items()})


def _read_kept(plan: Plan, unit: TargetUnit, name: str) -> np.ndarray | None:
    """Read a file that reports ask for, if the result has it, also where this report did not ask for it."""
    is_kept = name in store.read_marker(plan.folder / unit.marker)["files"]
    return store.read_array(plan.folder / name) if is_kept else None
