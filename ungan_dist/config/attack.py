"""The attack's settings, and what a report may show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ungan_dist.config.checks import positive, within

MIN_SHADOWS = 4
"""Shadow models below which no spread can be measured within an example."""


QueryView = Literal["plain", "flip", "shift"]


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
class ReportConfig:
    """What a report may show."""

    show_examples: bool = False
    """Show pictures and ids of forget examples although the data is not a public bundled set."""
