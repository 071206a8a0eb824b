"""Sources of examples, their split, the user's own files, and the data loader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.checks import ADDED, not_negative, positive, within
from ungan_dist.config.forget_rule import ForgetRule, parse_forget

SourceKind = Literal[
    "digits", "digits_table", "cifar10", "cifar20", "cifar100", "parquet", "image_folder", "arrays", "auto"
]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where examples come from."""

    kind: SourceKind = "digits"
    """digits, digits_table: bundled with scikit-learn, as pictures or as a table of 64 columns. cifar10, cifar100:
    Parquet at the path, else the authors' archive, downloaded once and checked against its checksum. cifar20: CIFAR-100
    with its 20 coarse labels as classes, and its 100 fine ones as subclasses, to forget one. arrays: features and
    labels from an .npz file or from the columns of Parquet. auto: arrays, pictures in Parquet or an image folder,
    detected from the path."""
    path: str | None = None
    """Folder or file to read. For CIFAR-10, defaults to the environment variable CIFAR10_PARQUET."""
    mean: tuple[float, ...] | None = field(default=None, metadata=ADDED)
    """Per-channel mean of pixels divided by 255, as used to train the given weights; defaults to the data's."""
    std: tuple[float, ...] | None = field(default=None, metadata=ADDED)
    """Per-channel standard deviation, likewise; defaults to the data's."""
    columns: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Columns of Parquet files, such as image=photo,label=breed,id=key. By default img or image, label or fine_label,
    and id; of a table, every other column is a feature. Of .npz files: features, label, id, and test_features,
    test_label, test_id."""
    resize: int | None = field(default=None, metadata=ADDED)
    """Scale each picture's shorter side to so many pixels, and cut a square from its centre, by Pillow (bilinear), also
    those of CIFAR and the digits. By default all pictures must have one size."""
    standardise: bool = field(default=True, metadata=ADDED)
    """Bring each feature to mean 0 and deviation 1, with statistics of all examples that are not official test
    examples. They are the same for every model, so they tell members from non-members in none. Off: the values as they
    are."""

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"source.mean and source.std go together, got {self.mean} and {self.std}")
        for value in self.std or ():
            positive(**{"source.std": value})
        positive(**{"source.resize": self.resize})


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Sizes of the sets. The test set is the source's own, or the remaining examples if it has none.

    A size of 0 follows the data: D and D^s get 40 % each of the examples that are not official test examples, and D_u
    and the test set share the rest. With an official test set, D and D^s get 45 % each and D_u the rest.
    """

    train: int = 675
    """Size of D, the original's training set; must equal shadow_pool. 0: 40 % of the data, or 45 % if the data have an
    official test set."""
    shadow_pool: int = 675
    """Size of D^s, disjoint from D. Shadow models are trained on halves of D ∪ D^s. 0: that of D."""
    unseen: int = 150
    """Size of D_u, the held-out examples whose outputs UnGAN imitates on the forget set. 0: half of the rest, or the
    whole rest if the data have an official test set."""
    forget: str = field(default="random", metadata=ADDED)
    """What to forget. random: forget_fraction of D. random=10: so many examples of D. class=cat, classes=2,5: every
    training example of these classes, by name or number; the audit then compares with never-seen examples of the same
    classes. subclass=maple_tree: likewise a subclass of source.kind cifar20. hardest=100, easiest=0.1: so many
    examples, or a fraction, that shadow models of an earlier run memorised most or least (given.scores). list: the list
    that --forget (given.forget) names, as by default if there is one."""
    forget_fraction: float = 0.05
    """Fraction of D to forget, drawn at random; for split.forget random alone."""
    seed: int = 42
    """Seed of D_u and of the pool D ∪ D^s. Each audit seed redraws D and D_f from the pool."""
    forget_copies: Literal["report", "also"] = field(default="report", metadata=ADDED)
    """What happens to training examples with the same pixels as a listed forget example. report: they are counted in
    the report. also: they are added to the forget set."""

    def __post_init__(self) -> None:
        not_negative(train=self.train, shadow_pool=self.shadow_pool, unseen=self.unseen)
        not_negative(**{"split.seed": self.seed})
        within(0, 1, forget_fraction=self.forget_fraction)
        object.__setattr__(self, "forget", self.rule.text)
        if self.train and self.shadow_pool and self.train != self.shadow_pool:
            raise ValueError(
                f"shadow_pool must equal train, so that a shadow model sees as many examples as the original; "
                f"got train={self.train}, shadow_pool={self.shadow_pool}: add --split.shadow-pool {self.train}"
            )
        if self.train and not self.rule.is_class and not 0 < self.num_forget < self.train:
            wanted = f"split.forget_fraction {self.forget_fraction}" if self.rule.amount is None else "split.forget"
            raise ValueError(
                f"{wanted} of {self.train} examples leaves {self.num_forget} to "
                f"forget; between 1 and {self.train - 1} are needed: change it, or use more examples"
            )

    @property
    def follows_data(self) -> bool:
        """Whether any size is a fraction of the data."""
        return not (self.train and self.shadow_pool and self.unseen)

    @property
    def rule(self) -> ForgetRule:
        """What ``forget`` asks for."""
        return parse_forget(self.forget)

    def refuse_unused_fraction(self) -> None:
        """Refuse a ``forget_fraction`` that somebody set, if ``forget`` leaves it unused.

        Raises:
            ValueError: It is unused.
        """
        if self.forget not in ("random", "list"):
            raise ValueError(
                f"split.forget {self.forget} leaves split.forget_fraction unused: leave it out, or forget a fraction "
                f"at random by split.forget random"
            )

    @property
    def num_forget(self) -> int:
        """Size of a random D_f; that of a list or of classes follows from the data."""
        amount = self.rule.amount
        amount = self.forget_fraction if amount is None else amount
        return round(self.train * amount) if amount < 1 else int(amount)


@dataclass(frozen=True, kw_only=True)
class GivenConfig:
    """Your own files. A run identifies them by content, not by path."""

    original: str | None = None
    """Weights of the original (safetensors, or a checkpoint of plain tensors). RUN:METHOD is the unlearned model of an
    earlier run, for the next forget request: the run's folder and a method of it. By default the original is trained.
    """
    forget: str | None = None
    """List of the examples to forget, by id or index: text with one per line, CSV with a column id or index, or .npy.
    The sets follow from the lists, and of split only the seed is used. By default the forget set is drawn at random."""
    members: str | None = None
    """List of the examples that the original was trained on. With given weights, defaults to all examples except the
    official test set. Otherwise defaults to a random sample that contains the forget set."""
    unlearned: str | None = None
    """Weights of a model that was unlearned elsewhere, audited as the row ``unlearned``."""
    scores: str | None = field(default=None, metadata=ADDED)
    """Records of single examples of an earlier run, by whose shadow models split.forget hardest and easiest go: a run
    folder or its records.parquet, which ungan-dist export RUN --records writes."""
    retrained: str | None = field(default=None, metadata=ADDED)
    """Weights of a model that was trained without the forget set, as the row ``retrain``; by default it is trained."""
    original_key: str | None = None
    """Which weights of the original's file are meant, if it holds several, such as raw and averaged ones (EMA): the key
    of their dict (``state_dict_ema``) or the prefix of their names (``teacher``). By default the only ones that fit."""
    unlearned_key: str | None = None
    """Likewise for the unlearned model's file."""
    retrained_key: str | None = field(default=None, metadata=ADDED)
    """Likewise for the retrained model's file."""

    @property
    def files(self) -> dict[str, str]:
        """The files that are given: field → path."""
        named = ("original", "forget", "members", "scores", "unlearned", "retrained")
        return {name: path for name in named if (path := getattr(self, name)) is not None}

    @property
    def keys(self) -> dict[str, str]:
        """The keys that are given: field → key."""
        named = ("original_key", "unlearned_key", "retrained_key")
        return {name: key for name in named if (key := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data loader; every loader gives the same bits."""

    loader: Literal["auto", "ffcv", "resident"] = "auto"
    """resident: all pixels in memory, on the GPU if there is one. ffcv: read from a file by FFCV, which must be
    installed. auto: resident if the pixels fit in a quarter of that memory or FFCV is missing, else ffcv."""
    num_threads: int | None = None
    """FFCV threads per process; defaults to 1 on a CPU, where processes share the cores, else to the cores per GPU."""

    def __post_init__(self) -> None:
        positive(**{"data.num_threads": self.num_threads})
