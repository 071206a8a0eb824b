"""Every frozen config: what a run is (identity) and how it is carried out (execution).

Imports neither torch nor numpy, so that ``--help`` is instant. Ranges are checked on construction.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from ungan_dist.config.attack import MIN_SHADOWS, AttackConfig, ReportConfig
from ungan_dist.config.checks import positive
from ungan_dist.config.data import DataConfig, GivenConfig, SourceConfig, SplitConfig
from ungan_dist.config.execution import ExecutionConfig, FleetConfig
from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    CFkConfig,
    FineTuningConfig,
    NegGradsConfig,
    OriginalConfig,
    RandomLabelsConfig,
    RetrainConfig,
    SCRUBConfig,
    UnGANConfig,
    UnlearnedConfig,
    UNSIRConfig,
)
from ungan_dist.config.training import ModelConfig, ShadowConfig, TrainConfig
from ungan_dist.config.variants import CHANGES, CONTROLS, Variant

Method = Literal[
    "original",
    "retrain",
    "fine_tuning",
    "random_labels",
    "neg_grads",
    "adv_neg_grads",
    "unsir",
    "scrub",
    "cf_k",
    "ungan",
    "unlearned",
    Variant,
]
"""The rows that a table can hold, by their names on the command line."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """One experiment: split → train → unlearn → shadow → score → report."""

    name: str
    """The recipe's name."""
    source: SourceConfig = field(default_factory=SourceConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    shadows: ShadowConfig = field(default_factory=ShadowConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)
    methods: tuple[Method, ...] = (
        "original",
        "retrain",
        "fine_tuning",
        "random_labels",
        "neg_grads",
        "adv_neg_grads",
        "unsir",
        "scrub",
        "cf_k",
        "ungan",
        *CONTROLS,
    )
    """Rows of the table, in order; a longer list extends a run. Known: original, retrain, fine_tuning, random_labels,
    neg_grads, adv_neg_grads, unsir, scrub, cf_k, ungan, unlearned, ungan_no_adversary, ungan_random_critic,
    ungan_penalty_as_written, ungan_penalty_of_embedding_sum, ungan_penalty_of_embedding_norm,
    ungan_penalty_of_jacobian, ungan_penalty_weight_1, ungan_epsilon_per_batch, ungan_labels_not_mixed,
    ungan_all_pairs, ungan_energy, ungan_energy_all_pairs, ungan_softmax, ungan_inclusive_loops,
    ungan_separate_optimizers, ungan_teacher_first, ungan_batch_norm_train, ungan_augmented."""
    num_seeds: int = 1
    """Audit seeds 0 … num_seeds − 1; each redraws D and D_f from the pool. A larger number extends a run."""
    original: OriginalConfig = field(default_factory=OriginalConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    fine_tuning: FineTuningConfig = field(default_factory=FineTuningConfig)
    random_labels: RandomLabelsConfig = field(default_factory=RandomLabelsConfig)
    neg_grads: NegGradsConfig = field(default_factory=NegGradsConfig)
    adv_neg_grads: AdvNegGradsConfig = field(default_factory=AdvNegGradsConfig)
    unsir: UNSIRConfig = field(default_factory=UNSIRConfig)
    scrub: SCRUBConfig = field(default_factory=SCRUBConfig)
    cf_k: CFkConfig = field(default_factory=CFkConfig)
    ungan: UnGANConfig = field(default_factory=UnGANConfig)
    given: GivenConfig = field(default_factory=GivenConfig)
    output: str = "runs"
    """Folder that holds run folders, shadow fleets and prepared data; or object storage, as s3://bucket/prefix,
    gs://bucket/prefix or file:///folder with pyarrow's options as the URL's query. Credentials come from the
    environment and the provider's own files, as for its other tools; none are read or kept here."""
    cluster: str = "local"
    """local: processes of this machine, without Ray. auto: joins this machine's Ray cluster or starts one. Else the
    address of a Ray cluster, host:port."""
    fleet: FleetConfig = field(default_factory=FleetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        positive(num_seeds=self.num_seeds)
        if not self.cluster or self.cluster.startswith("ray://"):
            raise ValueError(
                f"cluster must be local, auto or host:port, got {self.cluster!r} (a Ray client's connection does not "
                f"carry a fleet: run on a node of the cluster, or hand the run in with ungan-dist submit)"
            )
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise ValueError(f"methods must name at least one method, each once, got {self.methods}")
        if "original" not in self.methods:
            raise ValueError(f"methods must include original, from which the others start, got {self.methods}")
        if "unlearned" in self.methods and self.given.unlearned is None:
            raise ValueError("the row unlearned needs its weights: name them by --unlearned (given.unlearned)")
        if self.given.forget is None and (self.given.original or self.given.members or self.given.unlearned):
            raise ValueError("given weights or members need a forget list: name it by --forget (given.forget)")
        if self.given.unlearned and not (self.given.original or self.given.members):
            raise ValueError(
                "--unlearned needs to know what the model was trained on before: name it by --members (given.members), "
                "or give --original if that was all of the training data"
            )
        if self.num_seeds > 1 and (self.given.original or self.given.unlearned):
            raise ValueError(
                f"given weights are one model, the same under every seed: an interval over num_seeds {self.num_seeds} "
                f"seeds would be of no width and say nothing; leave num_seeds at 1"
            )
        if self.shadows.num_models < MIN_SHADOWS:
            raise ValueError(
                f"the attack needs at least {MIN_SHADOWS} shadow models, two that had each example and two that had "
                f"not; got shadows.num_models {self.shadows.num_models}"
            )
        num_retain = self.split.train - self.split.num_forget
        if num_retain * self.attack.fnr < 1:
            raise ValueError(
                f"attack.fnr {self.attack.fnr} needs at least {round(1 / self.attack.fnr)} retain examples, "
                f"the split has {num_retain}: raise split.train or attack.fnr, or lower split.forget_fraction"
            )


EXECUTION_FIELDS = ("given", "output", "cluster", "fleet", "data", "execution", "report")
"""Fields of AuditConfig that are no part of its identity; what was given counts by its content, hashed apart."""
APPEND_ONLY_FIELDS = ("methods", "num_seeds", "shadows.num_models")
"""Fields that extend a run: results so far stay valid."""


def method_config(config: AuditConfig, method: str) -> Any:
    """The frozen config behind a row; UnGAN's controls and readings are its own config with some fields changed."""
    for variant, changes in CHANGES.items():
        if variant == method:
            return dataclasses.replace(config.ungan, **changes)
    if method == "unlearned":
        return UnlearnedConfig(weights=config.given.unlearned or "")
    return getattr(config, method)
