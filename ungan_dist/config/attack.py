"""Settings of the attack and of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, NamedTuple

from ungan_dist.config.checks import ADDED, positive, within

ALL = "all"
"""Stands for every method of a run that unlearns."""
NOT_UNLEARNED = ("original", "unlearned")
"""Rows that no shadow model can unlearn by: nothing is unlearned, or other software did it."""
UNLEARNED_SHADOWS = 6
"""Fewest shadow models for U-LiRA: a scored model and its partner leave two with each example and two without."""
MIN_SHADOWS = 4
"""Fewest shadow models with which the spread of an example's log-odds can be measured."""


QueryView = Literal["plain", "flip", "shift", "18"]


class View(NamedTuple):
    """How every image is changed before a model is asked about it."""

    flip: bool = False
    """Mirror left and right."""
    right: int = 0
    """Pixels by which the image is moved, after the flip. New pixels are 0."""
    down: int = 0


VIEWS: dict[str, tuple[View, ...]] = {
    "plain": (View(),),
    "flip": (View(flip=True),),
    "shift": (View(right=1, down=1),),
    "18": tuple(View(*each) for each in product((False, True), (-1, 0, 1), (-1, 0, 1))),
}
"""Name in the config → views. The 18 are those of Carlini's public code, which mirrors images into the new pixels."""


def list_views(queries: Sequence[QueryView]) -> list[View]:
    """List the views that stand behind the names of a config.

    Examples:
        >>> len(list_views(["plain", "flip"])), len(list_views(["18"]))
        (2, 18)
    """
    return [view for name in queries for view in VIEWS[name]]


PAPER_FORMATS = ("png", "pdf")
"""Formats of figures for papers."""

ATTACKS = {"lira": "LiRA", "rmia": "RMIA", "calibrated_loss": "calibrated loss", "loss": "loss"}
"""Attack → name in reports. A verdict takes all of them into account."""
QUICK_ATTACKS = {
    "loss": "loss",
    "modified_entropy": "modified entropy",
    "entropy": "entropy",
    "calibrated_loss": "calibrated loss",
}
"""The same for a quick audit, which has no shadow models. Its calibrated loss is relative to Retrain."""
CLASS_ATTACKS = {"retrain_loss": "loss against Retrain"}
"""Beside the others if whole classes are forgotten: relative to models that never saw the classes."""
ATTACK_NAMES = ATTACKS | CLASS_ATTACKS | QUICK_ATTACKS

LARGEST_DELTA = 0.5
"""Bound of δ: a margin must be smaller."""


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """LiRA (Carlini et al. 2022), and the verdicts drawn from it and from RMIA, calibrated loss and loss."""

    center: Literal["mean", "median"] = "mean"
    """Centre of each Gaussian: mean (the paper) or median (Carlini's code)."""
    variance: Literal["auto", "per_example", "pooled", "carlini_fixed"] = "auto"
    """Variance of the Gaussians; per_example is the paper's. auto: per_example with 64 or more shadow models, else
    pooled."""
    mode: Literal["online", "offline", "offline_two_sided"] = "online"
    """online: likelihood ratio of IN to OUT models. offline: OUT models only, one-sided as in the paper.
    offline_two_sided: the density of the OUT models, as in Carlini's code, which takes low log-odds for members too."""
    fnr: float = 0.01
    """False negative rate of column (a); needs at least 1/fnr retain examples."""
    fprs: tuple[float, ...] = (0.01, 0.001)
    """False positive rates of column (b)."""
    delta: float = 0.02
    """Equivalence margin δ. A row is equivalent if the 90 % interval of its AUC gap to Retrain lies inside (−δ, δ)."""
    utility_margin: float = field(default=0.02, metadata=ADDED)
    """Loss of test or retain accuracy against Retrain, as a share, that a method may have. Beyond it, and beyond the
    half width of the loss's 90 % interval, a method that is equivalent stands apart as "equivalent, utility lost"."""
    sigma_floor: float = 1e-3
    """Smallest standard deviation of a Gaussian, in units of log-odds."""
    num_resamples: int = 2000
    """Bootstrap resamples per interval; used with fewer than three seeds."""
    unlearned_shadows: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Methods by which the shadow models unlearn too, for the attack U-LiRA; all: every method of the run. Each costs
    as many unlearnings as there are shadow models. A longer list extends a run."""
    quick: bool = field(default=False, metadata=ADDED)
    """Train no shadow models, and attack by the outputs of the audited models alone: loss, entropy and modified
    entropy. It takes about a minute for given models. It finds gross leaks, and never calls a method equivalent."""
    unlearned_seeds: int = field(default=1, metadata=ADDED)
    """Audit seeds 0 … unlearned_seeds − 1 whose forget sets the shadow models unlearn. A larger number extends a
    run."""

    def __post_init__(self) -> None:
        within(0, 1, fnr=self.fnr)
        for fpr in self.fprs:
            within(0, 1, fprs=fpr)
        within(0, LARGEST_DELTA, delta=self.delta)
        within(0, 1, utility_margin=self.utility_margin)
        positive(sigma_floor=self.sigma_floor, unlearned_seeds=self.unlearned_seeds)
        if self.quick and self.unlearned_shadows:
            raise ValueError("attack.quick trains no shadow models to unlearn: leave attack.unlearned_shadows out")
        if self.unlearned_seeds > 1 and not self.unlearned_shadows:
            raise ValueError("attack.unlearned_seeds needs methods: name them by --attack.unlearned-shadows")
        if self.num_resamples < 100:
            raise ValueError(f"num_resamples must be at least 100, got {self.num_resamples}")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Contents of the report."""

    show_examples: bool = False
    """Show images and ids of forget examples even if the data set is not a public bundled one."""
    figures: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Also write the figures as png, pdf or both, at the width of a paper's column, beside the SVGs."""
    distances: bool = field(default=False, metadata=ADDED)
    """Also compare the outputs on the forget set with those of Retrain (JS divergence, activation distance) and of
    initial weights (ZRF), in table.json and export. No verdict uses them. Finished originals and methods are computed
    again, to the same weights."""
    relearning: bool = field(default=False, metadata=ADDED)
    """Also fine-tune every model on a tenth of the forget set, and compare how fast its accuracy on the other nine
    tenths grows with Retrain's. No verdict uses it. Finished originals and methods are computed again, to the same
    weights."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.figures) - set(PAPER_FORMATS)):
            raise ValueError(f"figures must be of {', '.join(PAPER_FORMATS)}, got {', '.join(unknown)}")
