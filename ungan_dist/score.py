"""From what the methods showed to the rows of the table: both columns, their intervals, the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float64

from ungan_dist.config import AttackConfig
from ungan_dist.data import derive_seed
from ungan_dist.evidence import Evidence, Interval, Row
from ungan_dist.intervals import (
    SEEDS_FOR_T,
    Resampled,
    bootstrap,
    bootstrap_interval,
    resample_counts,
    resampled_auc,
    resampled_share_above,
    resampled_share_below,
    seeded_interval,
    verdict,
)
from ungan_dist.metrics import auc, examples_needed, operating_point, tnr_rank, tpr_at_fpr, tpr_rank

TITLES = {
    "original": "Original",
    "retrain": "Retrain",
    "fine_tuning": "Fine-Tuning",
    "random_labels": "Random Labels",
    "neg_grads": "Neg Grads",
    "adv_neg_grads": "Adv. Neg Grads",
    "cf_k": "CF-k",
    "unsir": "UNSIR",
    "scrub": "SCRUB",
    "ungan": "UnGAN",
    "ungan_no_adversary": "UnGAN, no adversary",
    "ungan_random_critic": "UnGAN, random critic",
}
REFERENCE = "retrain"
FURTHER_FNR = 0.001
"""Reported beside the headline false negative rate where there are enough retain examples."""
LEVEL = 0.95
"""Of every cell's interval."""
VERDICT_LEVEL = 0.90
"""Of the gap's interval: two one-sided tests at 5 % each."""

Key = tuple[str, int]
"""Method and seed."""
Resamples = dict[str, Float64[np.ndarray, " resamples"]]
"""Cells of one method under one seed on resampled examples, by the cell's name."""


def score_rows(evidence: Sequence[Evidence], attack: AttackConfig, *, num_test: int | None = None) -> list[Row]:
    """The table's rows, one a method, in the order in which the methods first appear.

    A method scored under fewer seeds than others is scored on those it has, and compared with Retrain on those
    that both have; where it shares none with Retrain, with .5, which is Retrain's AUC by construction.

    Args:
        evidence: every method under every seed, as far as the run got.
        num_test: test examples behind ``accuracy["test"]``; needed for its interval below three seeds.

    Raises:
        ValueError: no evidence, evidence twice, methods of one seed that do not share their sets, scores that are
            not finite, or fewer than 1/fnr retain examples for the headline FNR.
    """
    _check(evidence)
    seeds_of: dict[str, list[int]] = {}
    for item in evidence:
        seeds_of[item.method] = sorted([*seeds_of.get(item.method, []), item.seed])
    cells = {(item.method, item.seed): _cells(item, attack) for item in evidence}
    resamples = _resamples(evidence, attack, num_test, needed=_keys_of_few_seeds(seeds_of))

    def interval(method: str, name: str) -> Interval:
        keys = [(method, seed) for seed in seeds_of[method]]
        estimates = [cells[key][name] for key in keys]
        return _interval(estimates, [resamples[key][name] for key in keys if key in resamples], LEVEL)

    def optional(method: str, kind: str, rates: Iterable[float], group: str) -> dict[str, Interval | str]:
        names = {rate: f"{kind} {rate}" for rate in rates}
        return {
            str(rate): interval(method, name)
            if all(name in cells[method, seed] for seed in seeds_of[method])
            else f"n/a (needs ≥ {examples_needed(rate):,} {group} examples)"
            for rate, name in names.items()
        }

    def gap(method: str) -> Interval:
        common = _common_seeds(seeds_of, method)
        keys = [(method, seed) for seed in common or seeds_of[method]]
        against = [(REFERENCE, seed) for seed in common]
        estimates = np.array([cells[key]["auc"] for key in keys])
        drawn = [resamples[key]["auc"] for key in keys if key in resamples]
        if not common:
            return _interval(estimates - 0.5, [own - 0.5 for own in drawn], VERDICT_LEVEL)
        drawn = [own - resamples[key]["auc"] for own, key in zip(drawn, against, strict=False) if key in resamples]
        return _interval(estimates - [cells[key]["auc"] for key in against], drawn, VERDICT_LEVEL)
