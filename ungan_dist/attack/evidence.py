"""Data passed from the experiment to the audit, and from the audit to the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int

from ungan_dist.attack.arrays import to_numpy
from ungan_dist.attack.estimates import KLOM, EarlierRequest, Interval, Relearning, StageSplit, Verdict
from ungan_dist.attack.estimates import AttackResult as AttackResult
from ungan_dist.attack.estimates import Deviation as Deviation
from ungan_dist.attack.looks import Stopping
from ungan_dist.attack.notebook import Notebook
from ungan_dist.attack.summary import row_to_html, summarise
from ungan_dist.config.methods import title_of

Utility = Literal["", "utility lost", "at chance", "constant"]
"""Whether a model still works; empty if it does. See :mod:`ungan_dist.attack.utility`."""


@dataclass(frozen=True, kw_only=True)
class RecordPValues:
    """P values of the forget examples of one method and seed, in the order of the forget set."""

    ids: Int[np.ndarray, " forget"]
    """Index of each example in the data set: personal data."""
    p: Float64[np.ndarray, " forget"]
    """Exact for Gaussian log-odds at every number of shadow models: Student's t prediction from the OUT models."""
    low: Float64[np.ndarray, " forget"]
    high: Float64[np.ndarray, " forget"]
    """95 % interval of the p value that endless shadow models would give."""
    num_out: Int[np.ndarray, " forget"]
    """OUT shadow models of each example."""
    non_member_p: Float64[np.ndarray, " non_members"] = field(default_factory=lambda: np.zeros(0))
    """P values of the seed's non-members, which the model never saw. A low ``p`` means something only against them."""

    @property
    def calibrated(self) -> Float64[np.ndarray, " forget"]:
        """P values calibrated against the non-members: the rank of each ``p`` among theirs.

        They hold for a model that is more, or less, confident than the shadow models, too. None is below
        1 / (non-members + 1).

        Raises:
            ValueError: There are no p values of non-members.
        """
        if not len(self.non_member_p):
            raise ValueError("there are no p values of non-members to calibrate against")
        at_most = np.searchsorted(np.sort(self.non_member_p), self.p, side="right")
        return (1 + at_most) / (1 + len(self.non_member_p))


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Measurements of one method under one audit seed."""

    method: str
    seed: int
    unlearning: int = 0
    """Number of the unlearning among those of the seed's original."""
    accuracy: dict[str, float]
    """Share classified correctly, in [0, 1], of ``retain``, ``forget``, ``test`` and ``unseen``."""
    log_odds: Float[np.ndarray, "pool queries"]
    """Log-odds of the unlearned model on D ∪ D^s."""
    log_odds_unseen: Float[np.ndarray, "unseen queries"]
    scores: Float[np.ndarray, " pool"]
    """LiRA's log-likelihood ratio, higher = member. In a quick audit, the log-odds."""
    retain: Int[np.ndarray, " retain"]
    """Positions in the pool."""
    forget: Int[np.ndarray, " forget"]
    non_members: Int[np.ndarray, " non_members"]
    """D^s of this seed, positions in the pool."""
    curves: dict[str, list[float]]
    """Mean loss per epoch or round, by name of the loss."""
    unlearning_seconds: float
    """T_U: time of the unlearning alone, with the device synchronised at both ends."""
    p_values: RecordPValues | None = None
    """Membership p value of each forget example."""
    further_scores: dict[str, Float64[np.ndarray, " pool"]] = field(default_factory=dict)
    """Scores of other attacks by their names in ``config.attack.ATTACK_NAMES``, higher = member."""
    attack: str = "lira"
    """The attack of ``scores``: ``lira``, or ``loss`` in a quick audit."""
    outputs: Float[np.ndarray, "2 forget classes"] | None = None
    """Probabilities on D_f of the model, and of a model with initial weights; None unless they were asked for."""
    relearning: Float64[np.ndarray, " steps"] | None = None
    """Accuracy on nine tenths of D_f before and after each step on the tenth; None unless it was asked for."""

    def __post_init__(self) -> None:
        for name in ("log_odds", "log_odds_unseen", "scores", "retain", "forget", "non_members"):
            object.__setattr__(self, name, to_numpy(name, getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class ULiRA:
    """U-LiRA on one method: LiRA among shadow models that unlearned by it."""

    auc: Interval
    """Mean over the shadow models: forget examples that a model forgot against those that it never had."""
    tpr_at_fpr: dict[str, Interval | str]
    num_shadows: int
    target_scores: dict[str, list[float]]
    """Quantiles of the target's scores on D_f, one per seed. It forgot all of D_f, so it has no negatives."""
    hidden_leak: str = ""
    """A warning if U-LiRA finds a leak although the verdict is equivalent."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method's row of the table. A cell that cannot be computed is a sentence with the reason."""

    method: str
    title: str
    accuracy: dict[str, Interval]
    """``retain``, ``forget``, ``test``, ``unseen``; shares in [0, 1]."""
    tnr_at_fnr: dict[str, Interval | str]
    """Column (a), by the FNR as written (``"0.01"``)."""
    achieved_fnr: dict[str, list[float]]
    auc: Interval
    """Column (b): D_f against D^s."""
    tpr_at_fpr: dict[str, Interval | str]
    tpr_at_fpr_flipped: dict[str, Interval | str]
    """The same with negated scores: forget examples that look less like members than non-members do."""
    verdict: Verdict
    low_p_values: dict[str, list[float]] = field(default_factory=dict)
    """Share of forget examples whose membership p value is at most the key, per seed. It means something only against
    the share of non-members."""
    low_p_values_of_non_members: dict[str, list[float]] = field(default_factory=dict)
    """The same of the non-members, which the model never saw. Empty in tables of earlier versions."""
    loss: dict[str, Interval] = field(default_factory=dict)
    """Accuracy of Retrain (of the original without Retrain) minus the model's, on ``retain`` and ``test``; 90 %."""
    utility: Utility = ""
    caveat: str = ""
    """The same as a sentence with its figures."""
    class_caveat: str = ""
    """A sentence if the model knows the forgotten classes otherwise than Retrain; empty if none are forgotten."""
    stages: dict[str, StageSplit] = field(default_factory=dict)
    """``auc``, ``gap`` and each accuracy, split by stage; empty with one unlearning an original."""
    attacks: dict[str, AttackResult] = field(default_factory=dict)
    """Attack → its result; the first one's, LiRA's unless the audit is quick, is ``auc`` and ``verdict.gap`` too."""
    distances: dict[str, list[float]] = field(default_factory=dict)
    """Distances of the outputs on D_f, by the names in ``attack.distances``, per seed; empty unless asked for."""
    relearning: Relearning | None = None
    """How fast the model learns D_f again; None unless it was asked for."""
    klom: KLOM | str | None = None
    """Against retrained shadow models; None where none unlearned, a sentence where it cannot be computed."""
    ulira: ULiRA | str | None = None
    """None where the shadow models did not unlearn; a sentence where it cannot be computed."""

    @property
    def first_attack(self) -> str:
        """The attack of ``auc`` and of the verdict's gap."""
        # the order of the attacks is lost where a report was read from its record
        return "lira" if "lira" in self.attacks or not self.attacks else "loss"

    @property
    def hidden_leak(self) -> str:
        """The warning of U-LiRA, if there is one."""
        return self.ulira.hidden_leak if isinstance(self.ulira, ULiRA) else ""

    def _repr_html_(self) -> str:
        return row_to_html(self)


@dataclass(frozen=True, kw_only=True)
class Normality:
    """Shares of LiRA's Gaussians, one per example and query, that an Anderson–Darling test rejects at 5 %."""

    rejected_in: float
    rejected_out: float
    num_tested: int
    """Gaussians of either group."""

    @property
    def is_doubtful(self) -> bool:
        """Whether a share is far above the 5 % of chance."""
        return max(self.rejected_in, self.rejected_out) > 0.15


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A model that failed under one seed, and would fail again."""

    title: str
    """Method and seed, or shadow models."""
    method: str | None
    """``None`` for shadow models."""
    seed: int | None
    outcome: Literal["failed", "diverged"]
    reason: str
    traceback: str = ""
    """Path of the file with the traceback, relative to the run folder."""

    @property
    def sentence(self) -> str:
        return f"{self.title} ({self.outcome}): {self.reason}"


@dataclass(frozen=True, kw_only=True)
class FailedRow:
    """A method without a result under any seed, in the place of its row."""

    method: str
    title: str
    outcome: Literal["failed", "diverged"]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ForgetExample:
    """An image of the forget set and its scores. It is personal data unless the data set is public."""

    id: int
    """Index in the data set."""
    label: str
    png: bytes
    scores: dict[str, float]
    """LiRA's log-likelihood ratio by row title, higher = member."""
    p_values: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """Membership p value and its 95 % interval, by row title."""


@dataclass(frozen=True, kw_only=True)
class Remedies:
    """Ways in which the user can narrow the intervals of this run."""

    more_seeds: bool = True
    """More seeds help, except with given weights, which are the same model under every seed."""
    forget_list: bool = False
    """The forget set is a list, not a fraction of the data."""
    forgets_classes: bool = False
    """The forget set follows from classes."""
    amount_option: str = "split.forget_fraction"
    """The option that sets how many examples are forgotten at random, or by how hard they are."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Report(Notebook):
    """The content of a report. A notebook shows it as a table.

    Examples:
        >>> Report(
        ...     title="Digits", recipe="digits", run_hash="0123abcd", config={}, resolved={}, versions={}, sizes={},
        ...     rows=[], evidence=[], shadow_quality={}, status="PARTIAL", folder=Path("runs/digits-0123abcd"),
        ... )
        <Report of Digits, run 0123abcd: PARTIAL, 0 rows; runs/digits-0123abcd>
    """

    title: str
    """Name of the data, for example "CIFAR-10 (JPEG 75)"."""
    recipe: str
    run_hash: str
    config: dict[str, object]
    """The identity half and the append-only fields."""
    resolved: dict[str, object]
    """Resolved value of each "auto"."""
    versions: dict[str, str]
    sizes: dict[str, int]
    """Examples in ``train``, ``retain``, ``forget``, ``unseen``, ``shadow_pool``, ``test``; ``shadows``; ``seeds``.
    With several unlearnings an original, ``unlearnings``."""
    rows: list[Row]
    evidence: list[Evidence]
    shadow_quality: dict[str, float]
    """Checks of the attack itself, such as LiRA's AUC of the original's D against D^s, mean over seeds."""
    status: Literal["COMPLETE", "COMPLETE WITH FAILURES", "PARTIAL"]
    """``COMPLETE WITH FAILURES``: what is absent failed, and would fail again."""
    missing: list[str] = field(default_factory=list)
    """Missing parts of a partial run, which the same command computes."""
    failures: list[Failure] = field(default_factory=list)
    """What failed and would fail again; the same command does not repeat it."""
    forget_files: list[str] = field(default_factory=list)
    """Files, relative to the output folder, that still hold data of the forget set."""
    notes: list[str] = field(default_factory=list)
    """Remarks about the given model and lists, and about defaults used in their place."""
    copies: str = ""
    """How many forget examples have the same pixels as other examples; empty if none has."""
    copied: tuple[str, ...] = ()
    """The first of these examples, for the terminal alone: ids are personal data."""
    examples: list[ForgetExample] = field(default_factory=list)
    """Only of a public bundled data set, or if the config requests them."""
    remedies: Remedies = Remedies()
    smallest_delta: float | None = None
    """Smallest δ that a method equal to Retrain passes by all attacks in four of five such runs; None without scored
    rows, and in a quick audit."""
    normality: Normality | None = None
    """Whether the shadow models' log-odds are Gaussian; None if there are too few of them."""
    sensitivity: dict[str, dict[int, float]] = field(default_factory=dict)
    """Method → number of shadow models → LiRA's AUC (b) with the first of them, mean over the seeds."""
    records_file: str = ""
    """Path of ``records.parquet``, relative to the output folder, which ``ungan-dist export --records`` writes."""
    data_hash: str = ""
    """SHA-256 of the data by content."""
    num_classes: int | None = None
    """Classes of the data. Accuracy by chance is the inverse."""
    unlearned_seconds: dict[str, float] = field(default_factory=dict)
    """Seconds in which the shadow models unlearned for U-LiRA, by method."""
    stopping: Stopping | None = None
    """The looks so far, if the run is extended until it is decided."""
    earlier: list[EarlierRequest] = field(default_factory=list)
    """Audits of the earlier requests of a sequence, repeated with this run's models."""
    folder: Path | None = None
    """Folder of report.html: the run folder, or ``reports/NAME`` in it for a report on fewer methods, seeds or shadow
    models. With object storage, it is in the working folder of this machine."""

    @property
    def failed_rows(self) -> list[FailedRow]:
        """Rows of the methods that failed under every seed."""
        scored = {row.method for row in self.rows}
        rows: dict[str, FailedRow] = {}
        for one in self.failures:
            if one.method is not None and one.method not in scored:
                title = title_of(one.method)
                row = FailedRow(method=one.method, title=title, outcome=one.outcome, reason=one.reason)
                rows.setdefault(one.method, row)
        return list(rows.values())

    def __repr__(self) -> str:
        return summarise(self)
