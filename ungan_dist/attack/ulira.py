"""U-LiRA (Hayes et al. 2024): LiRA with shadow models that unlearned as the target did.

LiRA's shadow models never unlearned anything, so their members do not look like forgotten examples. Here, x ∈ D_f is IN
for the shadow models that had it and forgot it, and OUT for those that never had it and forgot other examples. The
target forgot all of D_f and has no negatives there, so the attack is measured on the shadow models: each is scored by
the others, without its complementary partner, which would reveal its membership.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from ungan_dist.attack.arrays import Values, describe, to_numpy
from ungan_dist.attack.distributions import normal_quantile, student_t_quantile
from ungan_dist.attack.evidence import Interval, Row, ULiRA
from ungan_dist.attack.intervals import bootstrap_interval, draw_resample_counts
from ungan_dist.attack.lira import (
    ResolvedVariance,
    ShadowFits,
    Variance,
    measure_deviation,
    resolve_variance,
)
from ungan_dist.attack.mann_whitney import FEW, measure_influence, widen_extreme
from ungan_dist.attack.metrics import examples_needed, tpr_at_fpr
from ungan_dist.attack.moments import Moments, compute_in_and_out_moments, remove_value
from ungan_dist.attack.score import LEVEL
from ungan_dist.config.attack import UNLEARNED_SHADOWS, AttackConfig
from ungan_dist.data.seeds import derive_seed

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of the target's scores."""
RESAMPLES_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class UnlearnedFleet:
    """Log-odds of one method's unlearned shadow models, and of its target, on the forget set of one seed."""

    log_odds: Float[np.ndarray, "models forget queries"]
    """Rows 2j and 2j + 1 are complementary partners."""
    membership: Bool[np.ndarray, "models forget"]
    """Whether a model had an example before it unlearned."""
    shadows: tuple[int, ...]
    """Ids of the models."""
    forget: Int[np.ndarray, " forget"]
    """Position of each example in the pool."""
    target: Float[np.ndarray, "forget queries"]


class ScoredFleet(NamedTuple):
    """Shadow models of one audit seed, scored by each other."""

    scores: Float64[np.ndarray, "models forget"]
    membership: Bool[np.ndarray, "models forget"]
    pairs: Int[np.ndarray, " models"]
    """Id of each model's pair."""
    examples: Int[np.ndarray, " forget"]
    """Id of each example; seeds may share some."""


def score_left_out(
    log_odds: Values, membership: Values, *, variance: Variance = "auto", sigma_floor: float = 1e-3
) -> Float64[np.ndarray, "models forget"]:
    """Score every shadow model by LiRA's likelihood ratio from the others, without its complementary partner.

    The Gaussians' moments are those of all models without the pair's own values, so no model is read twice.

    Args:
        log_odds: log-odds of the unlearned shadow models, [models, examples, queries], in nats.
        membership: True where a model had an example and forgot it, [models, examples]; rows 2j and 2j + 1 are
            complementary.
        variance: as in ``lira.likelihood_ratio``.
        sigma_floor: smallest standard deviation of a Gaussian, in nats.

    Raises:
        ValueError: shapes do not fit, there are fewer than six models, or partners are not complementary.

    Examples:
        >>> membership = np.array([[True], [False]] * 3)
        >>> log_odds = np.array([4.0, 1.0, 5.0, 2.0, 6.0, 0.0])[:, None, None]
        >>> score_left_out(log_odds, membership, variance="per_example").shape
        (6, 1)
    """
    values, is_in = _check_fleet(log_odds, membership)
    num_models, num_examples, num_queries = values.shape
    columns = values.reshape(num_models, -1)
    mask = np.repeat(is_in, num_queries, axis=1)
    resolved = resolve_variance(variance, num_models)
    everything = dict(zip(("in", "out"), compute_in_and_out_moments(columns, mask), strict=True))
    scores = np.empty((num_models, num_examples))
    for first in range(0, num_models, 2):
        one, other = columns[first], columns[first + 1]
        own = {"in": np.where(mask[first], one, other), "out": np.where(mask[first], other, one)}
        rest = {group: remove_value(moments, own[group]) for group, moments in everything.items()}
        fits = _fit(rest, (num_examples, num_queries), resolved, sigma_floor)
        for row in (first, first + 1):
            scores[row] = fits.score(values[row])
    return scores


def _fit(
    moments: Mapping[str, Moments], shape: tuple[int, int], variance: ResolvedVariance, sigma_floor: float
) -> ShadowFits:
    sigma = {group: np.maximum(measure_deviation(one, variance), sigma_floor) for group, one in moments.items()}
    if variance == "carlini_fixed":
        sigma["out"] = sigma["in"]
    center = {group: one.mean for group, one in moments.items()}
    return ShadowFits(mode="online", center=center, sigma=sigma, num_examples=shape[0], num_queries=shape[1])


def measure_ulira(seeds: Sequence[UnlearnedFleet], attack: AttackConfig) -> ULiRA | str:
    """Measure U-LiRA on one method.

    The AUC is the mean over the shadow models, of what each forgot against what it never had. TPRs have one threshold
    for all shadow models. Online LiRA with means is used, whatever the attack on the target uses.

    Args:
        seeds: the method's fleets, one per audit seed.
        attack: options of the attack.

    Returns:
        The measurements, or a sentence with the reason for their absence.
    """
    scored: list[ScoredFleet] = []
    for fleet in seeds:
        if len(fleet.log_odds) < UNLEARNED_SHADOWS:
            return f"n/a (needs ≥ {UNLEARNED_SHADOWS} unlearned shadow models)"
        scores = score_left_out(
            fleet.log_odds, fleet.membership, variance=attack.variance, sigma_floor=attack.sigma_floor
        )
        pairs = np.array(fleet.shadows) // 2
        scored.append(ScoredFleet(scores, fleet.membership, pairs, fleet.forget))
    auc = measure_auc(scored)
    if auc is None:
        return "n/a (needs ≥ 2 forget examples)"
    return ULiRA(
        auc=auc,
        tpr_at_fpr={str(fpr): _measure_tpr(scored, fpr, attack.num_resamples) for fpr in attack.fprs},
        num_shadows=min(len(fleet.log_odds) for fleet in seeds),
        target_scores=_describe_targets(seeds, attack),
    )


def measure_auc(seeds: Sequence[ScoredFleet], level: float = LEVEL) -> Interval | None:
    """Compute the mean AUC over shadow models, and an interval for both other models and other examples.

    All shadow models are scored on the same examples, and partners share their training examples by halves. The
    variance is therefore that of two crossed samples, pairs of models and examples: V(pairs) + V(examples) − V(cells),
    as in Cameron, Gelbach & Miller (2011). V(examples) sums each example's influences (DeLong 1988) over all models.
    Student's t has Welch's and Satterthwaite's degrees of freedom. Below ``FEW`` examples, their part is at least that
    of examples without a leak. A bootstrap that draws pairs and examples counts V(cells) three times (Owen 2007), and
    one that draws models alone ignores that they share their examples.

    Args:
        seeds: the scored shadow models of each audit seed.
        level: confidence level.

    Returns:
        The interval, or None if fewer than two pairs have an example on either side.
    """
    all_pairs = np.unique(np.concatenate([one.pairs for one in seeds]))
    ids = np.unique(np.concatenate([one.examples for one in seeds]))
    influences = np.zeros((len(all_pairs), len(ids)))
    found: list[tuple[int, int, float]] = []
    counts = np.zeros(2, dtype=np.int64)
    for number, seed in enumerate(seeds):
        columns = np.searchsorted(ids, seed.examples)
        for row, had, pair in zip(seed.scores, seed.membership, np.searchsorted(all_pairs, seed.pairs), strict=True):
            if had.all() or not had.any():
                continue
            one = measure_influence(row, np.flatnonzero(had), np.flatnonzero(~had))
            influences[pair, columns] += one.forget + one.non_members
            found.append((number, int(pair), one.estimate))
            counts += had.sum(), (~had).sum()
    pairs = sorted({pair for _, pair, _ in found})
    if len(pairs) < 2:
        return None
    per_seed = [
        float(np.mean([estimate for one, _, estimate in found if one == seed]))
        for seed in sorted({seed for seed, _, _ in found})
    ]
    mean = float(np.mean([estimate for _, _, estimate in found]))
    deviations = np.zeros(len(all_pairs))
    for _, pair, estimate in found:
        deviations[pair] += (estimate - mean) / len(found)
    influences /= len(found)
    num_examples = len(ids)
    of_pairs = float((deviations**2).sum()) * len(pairs) / (len(pairs) - 1)
    of_examples = float((influences.sum(0) ** 2).sum()) * num_examples / (num_examples - 1)
    variance = max(of_pairs, of_examples, of_pairs + of_examples - float((influences**2).sum()))
    doubt = of_pairs**2 / (len(pairs) - 1) + of_examples**2 / (num_examples - 1)
    half_width = 0.0
    if doubt:
        half_width = float(student_t_quantile((1 + level) / 2, (of_pairs + of_examples) ** 2 / doubt)) * sqrt(variance)
    if num_examples < FEW:
        least = sqrt(of_pairs + 1 / (12 * num_examples))
        half_width = max(half_width, float(normal_quantile((1 + level) / 2)) * least)
    interval = Interval(
        mean=mean,
        low=max(0.0, mean - half_width),
        high=min(1.0, mean + half_width),
        level=level,
        kind="shadows",
        per_seed=per_seed,
    )
    return widen_extreme(interval, (int(counts[0]), int(counts[1])))


def add_to_rows(rows: Sequence[Row], found: Mapping[str, ULiRA | str], delta: float) -> list[Row]:
    """Add U-LiRA to the rows, with a warning where the verdict is equivalent and U-LiRA finds a leak.

    Args:
        rows: rows with their final verdicts.
        found: measurements by method.
        delta: equivalence margin.
    """

    def add(row: Row) -> Row:
        ulira = found.get(row.method)
        if not isinstance(ulira, ULiRA) or not row.verdict.outcome.startswith("equivalent"):
            return replace(row, ulira=ulira)
        if ulira.auc.low <= 0.5 + delta:
            return replace(row, ulira=ulira)
        warning = (
            f"{row.title} hides a leak that U-LiRA finds. The verdict is {row.verdict.outcome}, but U-LiRA, whose "
            f"shadow models unlearn too, tells forgotten examples from unseen ones: its AUC is {ulira.auc.mean:.3f} "
            f"[{ulira.auc.low:.3f}, {ulira.auc.high:.3f}], above .5 + δ = {0.5 + delta:g}. The verdict is no pass."
        )
        return replace(row, ulira=replace(ulira, hidden_leak=warning))

    return [add(row) for row in rows]


def _measure_tpr(seeds: Sequence[ScoredFleet], fpr: float, num_resamples: int) -> Interval | str:
    """Compute the TPR with one threshold for all models; its bootstrap draws pairs of models and examples.

    It counts the variance of single cells three times, so it is wide. It is never narrower than Clopper and Pearson's
    interval of as many examples.
    """
    if any((~one.membership).sum() < examples_needed(fpr) for one in seeds):
        return f"n/a (needs ≥ {2 * examples_needed(fpr):,} shadow models × forget examples)"
    all_pairs = np.unique(np.concatenate([one.pairs for one in seeds]))
    ids = np.unique(np.concatenate([one.examples for one in seeds]))
    of_pairs = draw_resample_counts(len(all_pairs), num_resamples, derive_seed("bootstrap", "shadow pairs"))
    of_examples = draw_resample_counts(len(ids), num_resamples, derive_seed("bootstrap", "unlearned"))
    drawn = [
        _resample_tpr(
            one,
            of_pairs[:, np.searchsorted(all_pairs, one.pairs)],
            of_examples[:, np.searchsorted(ids, one.examples)],
            fpr,
        )
        for one in seeds
    ]
    estimates = [tpr_at_fpr(one.scores[one.membership], one.scores[~one.membership], fpr) for one in seeds]
    return bootstrap_interval(estimates, np.stack(drawn), LEVEL, num_examples=len(ids))


def _resample_tpr(
    seed: ScoredFleet, models: np.ndarray, examples: np.ndarray, fpr: float
) -> Float64[np.ndarray, " resamples"]:
    """Compute the TPR of resampled models and examples, drawn as often as their counts say."""
    sides: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for mask in (~seed.membership, seed.membership):
        order = np.argsort(-seed.scores[mask])
        model, example = (places[order] for places in np.nonzero(mask))
        sides.append((model, example, -seed.scores[mask][order]))
    negative, positive = (falling for _, _, falling in sides)
    shares: list[np.ndarray] = []
    for start in range(0, len(models), RESAMPLES_AT_ONCE):
        chunk = slice(start, start + RESAMPLES_AT_ONCE)
        num_out, num_in = (
            np.cumsum(models[chunk][:, model].astype(np.int32) * examples[chunk][:, example], axis=1)
            for model, example, _ in sides
        )
        rank = np.maximum(1, np.ceil(fpr * num_out[:, -1:] - 1e-9))
        threshold = negative[np.minimum((num_out < rank).sum(1), len(negative) - 1)]
        above = np.searchsorted(positive, threshold, "left")
        hits = np.where(above > 0, num_in[np.arange(len(above)), above - 1], 0)
        shares.append(hits / np.maximum(num_in[:, -1], 1))
    return np.concatenate(shares)


def _describe_targets(seeds: Sequence[UnlearnedFleet], attack: AttackConfig) -> dict[str, list[float]]:
    """Return quantiles of the target's scores on D_f, from all unlearned shadow models, one value per seed."""
    found: dict[str, list[float]] = {str(quantile): [] for quantile in QUANTILES}
    for fleet in seeds:
        values, is_in = _check_fleet(fleet.log_odds, fleet.membership)
        mask = np.repeat(is_in, values.shape[2], axis=1)
        moments = compute_in_and_out_moments(values.reshape(len(values), -1), mask)
        resolved = resolve_variance(attack.variance, len(values))
        fits = _fit(dict(zip(("in", "out"), moments, strict=True)), values.shape[1:], resolved, attack.sigma_floor)
        scores = fits.score(fleet.target)
        for quantile in QUANTILES:
            found[str(quantile)].append(float(np.quantile(scores, quantile)))
    return found


def _check_fleet(
    log_odds: Values, membership: Values
) -> tuple[Float64[np.ndarray, "models forget queries"], Bool[np.ndarray, "models forget"]]:
    values, is_in = to_numpy("log_odds", log_odds), to_numpy("membership", membership)
    if values.ndim != 3 or 0 in values.shape or is_in.shape != values.shape[:2] or is_in.dtype != np.bool_:
        raise ValueError(
            f"log_odds must have the shape [models, examples, queries] and membership be bool of [models, examples], "
            f"got {describe(log_odds)} and {describe(membership)}"
        )
    if len(values) < UNLEARNED_SHADOWS or len(values) % 2:
        raise ValueError(f"U-LiRA needs pairs of shadow models, at least {UNLEARNED_SHADOWS} models, got {len(values)}")
    if not (is_in[::2] ^ is_in[1::2]).all():
        raise ValueError("rows 2j and 2j + 1 of membership must be complementary: each example is in one of the two")
    if not np.isfinite(values).all():
        broken = np.flatnonzero(~np.isfinite(values).all((1, 2))).tolist()
        raise ValueError(f"log-odds of unlearned shadow models {broken} are not finite: they have diverged")
    return values.astype(np.float64), is_in
