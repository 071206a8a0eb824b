"""Estimates and what is concluded from them: intervals, verdicts, deviations, and audits of earlier requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate over the seeds with its two-sided interval."""

    mean: float
    low: float
    high: float
    level: float
    """Nominal coverage, 0.95 or 0.90."""
    kind: str
    """``student_t`` with three seeds or more. With fewer, ``examples`` for AUCs, gaps and losses and ``bootstrap`` for
    other shares; they hold for these models only. ``shadows`` for U-LiRA's AUC, over shadow models and examples."""
    per_seed: list[float]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The conclusion about one method, from column (b) alone."""

    outcome: str
    """``reference``, ``equivalent``, ``equivalent, utility lost``, ``under-forgotten``, ``over-forgotten``,
    ``inconclusive``, or ``no power: …`` or ``no verdict: …`` with the reason."""
    gap: Interval | None
    """90 % interval of the AUC (b) of LiRA, or in a quick audit of loss, minus Retrain's (minus .5 without Retrain);
    None for the reference."""
    smallest_delta: float | None
    """Smallest δ that the intervals of all attacks would have passed: the largest |low| or |high|."""
    attack: str = "lira"
    """The attack that decided: the one with the clearest trace, or the least certain one."""


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What one attack finds in a method's models."""

    auc: Interval
    """D_f against D^s."""
    gap: Interval | None
    """90 % interval of the gap to Retrain, which must lie inside (−δ, δ) for "equivalent"; None for the reference."""
    corrected_gap: Interval | None
    """Interval of the gap at a level corrected for the number of attacks, from which a trace is concluded."""


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A standard deviation with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class StageSplit:
    """The variation of one statistic, split by stage; see :mod:`ungan_dist.attack.stages`."""

    originals: Deviation | None
    """Between originals, beyond the forget sets where these are known; None with one seed."""
    unlearnings: Deviation
    """Between unlearnings of one original."""
    forget_sets: Deviation | None
    """Between draws of the examples, for the same models; None where it is not known."""
    values: list[list[float]]
    """The statistic of each seed's unlearnings."""


@dataclass(frozen=True, kw_only=True)
class Relearning:
    """How fast a method's models learn the forget set again from a tenth of it."""

    curve: list[float]
    """Accuracy on the other nine tenths before the first step and after each, mean over the seeds."""
    area: list[float]
    """Area under each seed's curve, divided by the number of steps."""
    gap: Interval | None
    """95 % interval of the area minus Retrain's, paired by seed. None for Retrain, and with fewer than three seeds."""


@dataclass(frozen=True, kw_only=True)
class KLOM:
    """KL divergences of margins on D_f between a method's shadow models and retrained ones, in nats, per seed."""

    mean: list[float]
    percentile_95: list[float]
    """95th percentile over the examples."""
    num_models: int
    """Fewest models behind the margins of an example, of either kind."""


@dataclass(frozen=True, kw_only=True)
class EarlierRow:
    """What one method's models still show of the examples of an earlier request, which none of them was asked about.

    Intervals are LiRA's, or in a quick audit those of loss. The conclusions take every attack into account.
    """

    method: str
    title: str
    auc: Interval
    """Examples of the earlier request against D^s."""
    gap: Interval | None
    """AUC minus that of this run's Retrain, which never saw them; None for Retrain."""
    outcome: str
    """The verdict on the gap: ``reference``, ``equivalent``, ``under-forgotten``, ``over-forgotten``,
    ``inconclusive``, or ``no power: …``."""
    change: Interval | None
    """AUC minus that of the original, which is the model before this request; None for the original."""
    returned: str
    """Conclusion on the change: ``before``, ``came back``, ``no change``, ``less than before`` or
    ``inconclusive``."""


@dataclass(frozen=True, kw_only=True)
class EarlierRequest:
    """The audit of an earlier request, repeated after this one."""

    run: str
    """Name of the run that forgot its examples."""
    method: str
    num_forget: int
    rows: list[EarlierRow]
