"""Every frozen config: what a run is (identity) and how it is carried out (execution).

Imports neither torch nor numpy, so that ``--help`` is instant. Ranges are checked on construction.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from ungan_dist.method_configs import (
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
from ungan_dist.ranges import not_negative, positive, within
from ungan_dist.readings import CHANGES, CONTROLS, Variant

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

MIN_SHADOWS = 4
"""Shadow models below which no spread can be measured within an example."""

QueryView = Literal["plain", "flip", "shift"]

ADDED = {"added": True}
"""Metadata of a field that came after results were named by its config: no part of a hash while at its default."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where examples come from."""

    kind: Literal["digits", "cifar10", "cifar100", "parquet", "image_folder", "auto"] = "digits"
    """auto: Parquet or an image folder, as the path is. digits: bundled with scikit-learn. cifar10, cifar100: Parquet
    where a path is given, else its authors' archive, downloaded once and checked against its checksum."""
    path: str | None = None
    """Folder or file to read; for CIFAR-10 the environment variable CIFAR10_PARQUET is the second choice."""
    mean: tuple[float, ...] | None = field(default=None, metadata=ADDED)
    """A channel, taken from pixels divided by 255: what given weights were trained with. None: that of the data."""
    std: tuple[float, ...] | None = field(default=None, metadata=ADDED)
    """A channel, by which the difference is divided. None: that of the data."""

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"source.mean and source.std go together, got {self.mean} and {self.std}")
        for value in self.std or ():
            positive(**{"source.std": value})


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Sizes of the sets. The test set is the source's own, or what is left where it has none."""

    train: int = 675
    """Examples the original is trained on, D; the shadow pool D^s must have as many."""
    shadow_pool: int = 675
    """Examples never in D; shadow models are drawn from D and D^s together."""
    unseen: int = 150
    """Held-out examples D_u whose outputs the forget set must take on."""
    forget_fraction: float = 0.05
    """Share of D to be forgotten, drawn at random."""
    seed: int = 42
    """Fixes unseen and the pool D ∪ D^s; each audit seed redraws D and D_f from the pool."""

    def __post_init__(self) -> None:
        positive(train=self.train, shadow_pool=self.shadow_pool, unseen=self.unseen)
        not_negative(**{"split.seed": self.seed})
        within(0, 1, forget_fraction=self.forget_fraction)
        if self.train != self.shadow_pool:
            raise ValueError(
                f"shadow_pool must equal train, so that a shadow model sees as many examples as the original; "
                f"got train={self.train}, shadow_pool={self.shadow_pool}"
            )
        if not 0 < self.num_forget < self.train:
            raise ValueError(
                f"forget_fraction {self.forget_fraction} of {self.train} examples leaves {self.num_forget} to forget; "
                f"between 1 and {self.train - 1} are needed"
            )

    @property
    def num_forget(self) -> int:
        """Size of D_f."""
        return round(self.train * self.forget_fraction)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The classifier."""

    name: Literal["small_cnn", "resnet18", "resnet18_cifar"] = "small_cnn"
    """small_cnn: three convolutions. resnet18: torchvision's own. resnet18_cifar: 3×3 stem, no max-pool."""
    width: int = 16
    """Channels of the small CNN's first stage; the ResNets ignore it."""
    factory: str | None = field(default=None, metadata=ADDED)
    """``module:function`` of your own, called with ``num_classes=`` and, where it takes one, ``channels=``; returns an
    nn.Module that maps [batch, channels, height, width] to [batch, num_classes]. Overrides the name. A run is known by
    this text and by the names and shapes of the model's weights, not by the code behind them."""

    def __post_init__(self) -> None:
        positive(width=self.width)
        if self.factory is not None and not all(self.factory.partition(":")[::2]):
            raise ValueError(f"model.factory must be module:function, got {self.factory!r}")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random crop and flip of training examples, drawn by Philox from (seed, epoch, example)."""

    padding: int = 0
    """Zero pixels added on each side before a random crop back to size; 0 turns the crop off."""
    flip: bool = False
    """Mirror left and right with probability one half."""

    def __post_init__(self) -> None:
        not_negative(padding=self.padding)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the original, Retrain and every shadow model are trained: SGD with cosine annealing per epoch."""

    epochs: int = 40
    """Passes over the training set."""
    batch_size: int = 256
    """Examples a step, over all ranks."""
    learning_rate: float = 0.1
    """Initial learning rate."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 0.0
    """L2 penalty."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training examples; evaluation has none."""
    num_threads: int = 1
    """Torch threads of a CPU training. Results depend on it, so it is part of what a result is."""
    num_workers: int = 1
    """Processes that share every batch of the original's and of each method's training (the shadow models' as well with
    shadows.data_parallel). batch_size stays that of all together, so a run may be continued with fewer: no more than
    rounding changes."""
    sync_batch_norm: bool = True
    """With several workers: batch norm by the statistics of the whole batch, as one process has them. Off: each worker
    by its own rows', which is faster and another training; the number of workers is then part of what a result is."""

    def __post_init__(self) -> None:
        positive(
            num_workers=self.num_workers,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            num_threads=self.num_threads,
        )
        not_negative(momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class ShadowConfig:
    """The fleet of shadow models."""

    num_models: int = 256
    """Shadow models trained; every example is a member of exactly half of them. A larger number extends a run."""
    unit_size: int = 8
    """Shadow models trained together as one unit of work: even, so that a unit holds whole pairs."""
    queries: tuple[QueryView, ...] = ("plain",)
    """Deterministic views of each example that the attack asks about, the same for every model."""
    seed: int = 0
    """Fixes the membership matrix and every shadow model's training."""
    engine: Literal["auto", "serial", "stacked"] = "auto"
    """serial: one model after another. stacked: all of a unit at once (torch.func). auto: serial on a CPU, for a model
    of your own and with shadows.data_parallel; stacked on a GPU otherwise."""
    data_parallel: bool = field(default=False, metadata=ADDED)
    """Each shadow model is trained by all of train.num_workers processes, as the original is: for models that are too
    large or too slow for one. Off: one process trains a unit, as many units at once as there are workers."""

    def __post_init__(self) -> None:
        if self.num_models < 2 or self.num_models % 2:
            raise ValueError(f"num_models must be even and at least 2, got {self.num_models}")
        if self.unit_size < 2 or self.unit_size % 2:
            raise ValueError(f"unit_size must be even and at least 2, got {self.unit_size}")
        if self.data_parallel and self.engine == "stacked":
            raise ValueError(
                "shadows.data_parallel trains one model after another by several processes, shadows.engine stacked all "
                "of a unit at once by one: choose one of the two"
            )
        not_negative(**{"shadows.seed": self.seed})
        if not self.queries or len(set(self.queries)) != len(self.queries):
            raise ValueError(f"queries must name at least one view, each once, got {self.queries}")


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """LiRA (Carlini et al. 2022) and what is concluded from it."""

    center: Literal["mean", "median"] = "mean"
    """Centre of each Gaussian: mean (the paper's fit) or median (Carlini's code)."""
    variance: Literal["auto", "per_example", "pooled", "carlini_fixed"] = "auto"
    """auto: per_example from 64 shadow models on, pooled below."""
    mode: Literal["online", "offline"] = "online"
    """online: ratio of IN to OUT likelihoods. offline: OUT models only."""
    fnr: float = 0.01
    """False negative rate of the headline column (a); needs at least 1/fnr retain examples."""
    fprs: tuple[float, ...] = (0.01, 0.001)
    """False positive rates of column (b)."""
    delta: float = 0.02
    """Equivalence margin: how far AUC (b) may lie from Retrain's for a verdict of equivalence."""
    sigma_floor: float = 1e-3
    """Smallest standard deviation of a Gaussian, in units of log-odds."""
    num_resamples: int = 2000
    """Bootstrap resamples behind an interval from fewer than three seeds."""

    def __post_init__(self) -> None:
        within(0, 1, fnr=self.fnr)
        for fpr in self.fprs:
            within(0, 1, fprs=fpr)
        within(0, 0.5, delta=self.delta)
        positive(sigma_floor=self.sigma_floor)
        if self.num_resamples < 100:
            raise ValueError(f"num_resamples must be at least 100, got {self.num_resamples}")


@dataclass(frozen=True, kw_only=True)
class GivenConfig:
    """What you bring: files, known to a run by their content and not by their place."""

    original: str | None = None
    """Weights of the original (safetensors, or a checkpoint of plain tensors); none: it is trained here."""
    forget: str | None = None
    """The examples to be forgotten: indices or ids, one a line (text), a column named id or index (CSV) or an array
    (.npy). The sets then follow from the lists: of split, only the seed counts. None: drawn at random, sizes as split
    says."""
    members: str | None = None
    """The examples that the original was trained on, likewise. None: with given weights, all but the official test
    examples; without, a random share that holds the forget set."""
    unlearned: str | None = None
    """Weights of a model that was unlearned elsewhere: the row ``unlearned``."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a report may show."""

    show_examples: bool = False
    """Show pictures and ids of forget examples although the data is not a public bundled set."""


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Where and how fast; never what the result is."""

    num_processes: int | None = None
    """Processes of the local pool; none: one a core."""
    run_name: str | None = None
    """Name of the run folder; none: the recipe's name and the hash of its identity."""
    keep_shadow_models: bool = False
    """Keep the weights of shadow models trained from now on, shadows/<unit>/<shadow>.safetensors; their log-odds are
    all that the audit needs."""
    progress: Literal["auto", "rich", "json", "none"] = "auto"
    """auto: rich on a terminal, JSON lines otherwise."""
    cache: str | None = None
    """Folder on each machine that works on an output in object storage; none: ~/.cache/ungan_dist."""

    def __post_init__(self) -> None:
        positive(num_processes=self.num_processes)
        if self.run_name is not None and (
            not self.run_name
            or self.run_name.startswith(".")
            or set(self.run_name) & set("/\\\0?#%")
            or self.run_name in ("data", "shadows")
        ):
            raise ValueError(
                f"run_name must be a plain folder name without ?, # or %, and neither data nor shadows, which runs "
                f"share; got {self.run_name!r}"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How examples reach the models; every loader gives the same bits."""

    loader: Literal["auto", "ffcv", "resident"] = "auto"
    """resident: all pixels in memory, the device's where it has its own. ffcv: read from a file by FFCV, which must be
    installed. auto: resident while the pixels fit in a quarter of that memory, or without FFCV; ffcv otherwise."""
    num_threads: int | None = None
    """Threads of a process that read and augment with FFCV; none: 1 on a CPU, where processes share the cores, else
    the cores a GPU has to itself."""

    def __post_init__(self) -> None:
        positive(**{"data.num_threads": self.num_threads})


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """Workers on a Ray cluster, and how patient it is with them; without meaning where --cluster is local."""

    num_workers: int | None = None
    """Workers; none: as many as the cluster has room for."""
    gpus_per_worker: float | None = None
    """GPUs a worker holds; a share such as 0.25 puts several on one. None: 1 where the cluster has GPUs, else 0."""
    cpus_per_worker: float = 1.0
    """CPUs a worker holds."""
    autoscaling: bool = False
    """The cluster grows on demand: ask for num_workers workers although it has no room for them yet."""
    wait_for_workers_s: float = 900.0
    """Seconds without a single worker after which the run stops, to be continued by the same command."""
    deadline_s: float | None = None
    """Seconds a unit may take before its worker is killed; none: ten times the longest of its kind so
    far, at least 120. Kinds are each method, the originals, and blocks of as many shadow models; the first of a kind
    has no deadline, but a long silence names it."""
    max_system_failures: int = 3
    """Workers that a unit may lose before it is quarantined."""
    max_application_failures: int = 2
    """Exceptions that a unit may raise before it is quarantined."""

    def __post_init__(self) -> None:
        positive(
            num_workers=self.num_workers,
            gpus_per_worker=self.gpus_per_worker or None,
            cpus_per_worker=self.cpus_per_worker,
            wait_for_workers_s=self.wait_for_workers_s,
            deadline_s=self.deadline_s,
            max_system_failures=self.max_system_failures,
            max_application_failures=self.max_application_failures,
        )
        if self.gpus_per_worker is not None and (
            self.gpus_per_worker < 0 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1)
        ):
            raise ValueError(f"gpus_per_worker must be a share of one GPU or whole GPUs, got {self.gpus_per_worker}")
        if self.autoscaling and self.num_workers is None:
            raise ValueError("fleet.autoscaling needs fleet.num_workers: how far the cluster may grow")


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
