"""Where examples come from, how they are split and how they reach the models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.checks import ADDED, not_negative, positive, within


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
