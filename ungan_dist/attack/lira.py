"""LiRA (Carlini et al. 2022): Gaussian fits to shadow models' log-odds, and the likelihood ratio of a target."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.special import log_ndtr

from ungan_dist.attack.arrays import Values, describe, to_numpy, to_positions
from ungan_dist.attack.moments import Moments, compute_moments, merge_moments, sum_in_and_out

Center = Literal["mean", "median"]
Mode = Literal["online", "offline", "offline_two_sided"]
ResolvedVariance = Literal["per_example", "pooled", "carlini_fixed"]
Variance = Literal["auto", "per_example", "pooled", "carlini_fixed"]

PER_EXAMPLE_FROM = 64
"""Number of shadow models from which each example's own standard deviation is better than the pooled one."""
CHUNK_BYTES = 2**20
"""Size of the float64 log-odds processed at once, so that a few such arrays fit in the cache."""
MAX_THREADS = 8
"""Threads that fit chunks at the same time; each holds a few arrays of that size."""


def resolve_variance(variance: Variance, num_models: int) -> ResolvedVariance:
    """Resolve "auto" for a number of shadow models. Other values are returned unchanged.

    Examples:
        >>> resolve_variance("auto", num_models=128)
        'per_example'
    """
    if variance != "auto":
        return variance
    return "per_example" if num_models >= PER_EXAMPLE_FROM else "pooled"


def likelihood_ratio(
    shadow_log_odds: Values,
    membership: Values,
    target_log_odds: Values,
    *,
    center: Center = "mean",
    variance: Variance = "auto",
    mode: Mode = "online",
    sigma_floor: float = 1e-3,
    leave_out: Values = (),
) -> Float64[np.ndarray, " examples"]:
    """Compute LiRA's score of each example, the log-likelihood ratio of member to non-member.

    Online, the score is ``log N(φ; μ_in, σ_in) − log N(φ; μ_out, σ_out)``. Offline, it is
    ``log Φ((φ − μ_out) / σ_out)``, from the models that never had the example; two-sided, as in Carlini's code, it is
    ``−log N(φ; μ_out, σ_out)``. All are averaged over the queries. A higher score means member. Arrays may be NumPy
    arrays, torch tensors or lists.

    Args:
        shadow_log_odds: log-odds of every shadow model on every example, [models, examples, queries], in nats; read
            once. A NumPy array may be memory-mapped.
        membership: True where a shadow model was trained on an example, [models, examples].
        target_log_odds: log-odds of the attacked model, [examples, queries].
        center: mean, or median as in Carlini's code.
        variance: ``per_example`` uses each example's own (population) variance. ``pooled`` uses one for IN and one for
            OUT, from deviations within examples. ``carlini_fixed`` uses the variance of all IN values about their
            common mean, also for OUT, as in the public code. Offline, it uses all OUT values. ``auto`` uses
            ``resolve_variance``.
        sigma_floor: smallest standard deviation of a Gaussian, in nats.
        leave_out: shadow models to ignore, as positions or as a mask. If the target is one of them, list it and its
            complementary partner, whose membership reveals the target's.

    Raises:
        ValueError: shapes do not fit, an example has too few models, or log-odds are not finite.

    Examples:
        >>> membership = np.array([[True], [True], [False], [False]])
        >>> shadows = np.array([4.0, 5.0, 1.0, 2.0]).reshape(4, 1, 1)
        >>> likelihood_ratio(shadows, membership, np.array([[4.5]]), variance="pooled")
        array([9.])
    """
    fits = fit_shadows(
        shadow_log_odds,
        membership,
        center=center,
        variance=variance,
        mode=mode,
        sigma_floor=sigma_floor,
        leave_out=leave_out,
    )
    return fits.score(target_log_odds)


@dataclass(frozen=True, kw_only=True)
class ShadowFits:
    """Gaussians of every example and query. Fitted once, they score any number of targets."""

    mode: Mode
    center: dict[str, Float64[np.ndarray, " columns"]]
    """Centres of OUT and, if online, of IN. Columns are examples × queries, flattened."""
    sigma: dict[str, Any]
    """Standard deviations: one per column, or a single one for all columns."""
    num_examples: int
    num_queries: int

    def score(self, target_log_odds: Values) -> Float64[np.ndarray, " examples"]:
        """Compute LiRA's score of each example. A higher score means member.

        Args:
            target_log_odds: log-odds of the attacked model, [examples, queries].

        Raises:
            ValueError: the shape differs from the shadow models', or log-odds are not finite.
        """
        target = to_numpy("target_log_odds", target_log_odds)
        if target.shape != (self.num_examples, self.num_queries):
            needed = f"[{self.num_examples}, {self.num_queries}], as the shadow models have examples and queries"
            raise ValueError(f"target_log_odds must have shape {needed}, got {describe(target_log_odds)}")
        _check_finite(target)
        phi = np.asarray(target, dtype=np.float64).reshape(-1)
        standardised = {group: (phi - center) / self.sigma[group] for group, center in self.center.items()}
        if self.mode == "offline":
            score = log_ndtr(standardised["out"])
        elif self.mode == "offline_two_sided":
            score = standardised["out"] ** 2 / 2 + np.log(np.sqrt(2 * np.pi) * self.sigma["out"])
        else:
            score = (standardised["out"] ** 2 - standardised["in"] ** 2) / 2
            score += np.log(self.sigma["out"] / self.sigma["in"])
        return score.reshape(target.shape).mean(1)


def fit_shadows(
    shadow_log_odds: Values,
    membership: Values,
    *,
    center: Center = "mean",
    variance: Variance = "auto",
    mode: Mode = "online",
    sigma_floor: float = 1e-3,
    leave_out: Values = (),
) -> ShadowFits:
    """Fit the Gaussians of ``likelihood_ratio``, with the same arguments.

    Raises:
        ValueError: shapes do not fit, an example has too few models, or log-odds are not finite.

    Examples:
        >>> membership = np.array([[True], [True], [False], [False]])
        >>> shadows = np.array([4.0, 5.0, 1.0, 2.0]).reshape(4, 1, 1)
        >>> fits = fit_shadows(shadows, membership, variance="pooled")
        >>> fits.score(np.array([[4.5]])), fits.score(np.array([[1.5]]))
        (array([9.]), array([-9.]))
    """
    shadow, is_member = _to_arrays(shadow_log_odds, membership)
    num_models, num_examples, num_queries = shadow.shape
    _check_choices(center, variance, mode, sigma_floor)
    kept = np.setdiff1d(np.arange(num_models), to_positions("leave_out", leave_out, num_models))
    variance = resolve_variance(variance, num_models)
    _check_counts(is_member, kept, mode, needed=2 if variance == "per_example" else 1)

    groups = ("in", "out") if mode == "online" else ("out",)
    fits = _fit(shadow, is_member, kept, groups, center)
    sigma = {group: np.maximum(measure_deviation(fits[group].moments, variance), sigma_floor) for group in groups}
    if variance == "carlini_fixed" and mode == "online":
        sigma["out"] = sigma["in"]
    return ShadowFits(
        mode=mode,
        center={group: fits[group].center for group in groups},
        sigma=sigma,
        num_examples=num_examples,
        num_queries=num_queries,
    )


class _Fit(NamedTuple):
    """Fit of one group of shadow models, one column per example and query."""

    moments: Moments
    center: Float64[np.ndarray, " columns"]


def _fit(
    shadow_log_odds: np.ndarray, membership: np.ndarray, kept: np.ndarray, groups: tuple[str, ...], center: Center
) -> dict[str, _Fit]:
    """Fit every column. Threads share the chunks; each chunk has the bits that it has alone."""
    num_models, num_examples, num_queries = shadow_log_odds.shape
    rows = slice(None) if len(kept) == num_models else kept
    step = examples_per_chunk(len(kept), num_queries)

    def fit_chunks(starts: range) -> list[dict[str, _Fit]]:
        shape = (3, len(kept), min(step, num_examples), num_queries)
        buffers = np.empty(shape)  # used again and again, because new memory costs more than the sums
        return [fit_chunk(start, buffers) for start in starts]

    def fit_chunk(start: int, buffers: np.ndarray) -> dict[str, _Fit]:
        examples = slice(start, min(start + step, num_examples))
        size = (examples.stop - start) * num_queries
        values, weights, scratch = (
            buffer.reshape(-1)[: len(kept) * size].reshape(len(kept), size) for buffer in buffers
        )
        values.reshape(len(kept), -1, num_queries)[:] = shadow_log_odds[rows, examples]
        weights[:] = np.repeat(membership[rows, examples], num_queries, axis=1)
        with np.errstate(invalid="ignore", over="ignore"):  # such models are refused below
            if groups == ("out",):
                moments = (compute_moments(values, weights == 0),)
            else:
                moments = sum_in_and_out(values, weights, scratch)
            chosen = (weights == (group == "in") for group in groups)
            centers = [_median(values, c) for c in chosen] if center == "median" else [one.mean for one in moments]
        fits = (_Fit(*one) for one in zip(moments, centers, strict=True))
        return dict(zip(groups, fits, strict=True))

    num_threads = min(MAX_THREADS, os.cpu_count() or 1)
    starts = range(0, num_examples, step)
    per_thread = -(-len(starts) // num_threads)
    shares = [starts[first : first + per_thread] for first in range(0, len(starts), per_thread)]
    with ThreadPoolExecutor(num_threads) as threads:  # NumPy lets other threads run while it computes
        parts = [part for some in threads.map(fit_chunks, shares) for part in some]
    fits = {
        group: _Fit(
            Moments(*(np.concatenate(field) for field in zip(*(part[group].moments for part in parts), strict=True))),
            np.concatenate([part[group].center for part in parts]),
        )
        for group in groups
    }
    # squares are finite unless a value is not (or is beyond 1e150)
    if not all(np.isfinite(fit.moments.squares).all() for fit in fits.values()):
        _refuse_broken(shadow_log_odds, kept)
    return fits


def _refuse_broken(shadow_log_odds: np.ndarray, kept: np.ndarray) -> NoReturn:
    with np.errstate(over="ignore"):
        is_finite = [np.isfinite(np.square(shadow_log_odds[k], dtype=np.float64).sum()) for k in kept]
    raise ValueError(
        f"log-odds of shadow models {kept[~np.array(is_finite)].tolist()} are not finite: train them again, "
        "or list them and their complementary partners in leave_out"
    )


def examples_per_chunk(num_models: int, num_queries: int) -> int:
    """Return how many examples of these models are processed at once: see ``CHUNK_BYTES``."""
    return max(1, CHUNK_BYTES // (8 * num_models * num_queries))


def _median(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    count = chosen.sum(0)
    ordered = np.sort(np.where(chosen, values, np.inf), axis=0)
    middle = np.stack([(count - 1) // 2, count // 2])
    return np.take_along_axis(ordered, middle, axis=0).mean(0)


def measure_deviation(fit: Moments, variance: ResolvedVariance) -> np.ndarray | np.float64:
    """Compute one standard deviation per column, or a single one for all columns."""
    if variance == "per_example":
        return np.sqrt(fit.squares / fit.num_values)
    if variance == "carlini_fixed":
        everything = merge_moments(fit)
        return np.sqrt(everything.squares / everything.num_values)
    degrees_of_freedom = (fit.num_values - 1).sum()
    if degrees_of_freedom < 1:
        raise ValueError(
            "a pooled variance needs two IN or two OUT models of some example: use at least 4 shadow models"
        )
    return np.sqrt(fit.squares.sum() / degrees_of_freedom)


def _to_arrays(
    shadow_log_odds: Values, membership: Values
) -> tuple[Float[np.ndarray, "models examples queries"], Bool[np.ndarray, "models examples"]]:
    shadow = to_numpy("shadow_log_odds", shadow_log_odds)
    if shadow.ndim != 3 or 0 in shadow.shape:
        got = describe(shadow_log_odds)
        remedy = "; add an axis for the one query with shadow_log_odds[..., None]" if shadow.ndim == 2 else ""
        raise ValueError(f"shadow_log_odds must have the shape [models, examples, queries], got {got}{remedy}")
    is_member = to_numpy("membership", membership)
    if is_member.shape != shadow.shape[:2] or is_member.dtype != np.bool_:
        remedy = "; convert zeros and ones with membership == 1" if is_member.shape == shadow.shape[:2] else ""
        raise ValueError(
            f"membership must be bool of shape {list(shadow.shape[:2])}, the models and examples of shadow_log_odds, "
            f"got {describe(membership)}{remedy}"
        )
    return shadow if shadow.dtype.kind == "f" else shadow.astype(np.float64), is_member


def _check_finite(target: np.ndarray) -> None:
    broken = int((~np.isfinite(target)).any(1).sum())
    if broken:
        raise ValueError(f"the target's log-odds are not finite on {broken} of {len(target)} examples: it has diverged")


def _check_choices(center: str, variance: str, mode: str, sigma_floor: float) -> None:
    for name, value, choices in (("center", center, Center), ("variance", variance, Variance), ("mode", mode, Mode)):
        if value not in get_args(choices):
            raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
    if not 0 < sigma_floor < np.inf:
        raise ValueError(f"sigma_floor must be greater than 0 and finite, got {sigma_floor}")


def _check_counts(membership: np.ndarray, kept: np.ndarray, mode: Mode, needed: int) -> None:
    num_in = membership[kept].sum(0)
    num_out = len(kept) - num_in
    fewest = np.minimum(num_in, num_out) if mode == "online" else num_out
    short = int((fewest < needed).sum())
    if short:
        groups = "IN and OUT" if mode == "online" else "OUT"
        raise ValueError(
            f"{short} of {len(num_in)} examples have fewer than {needed} {groups} models among the {len(kept)} used: "
            "add complementary pairs of shadow models"
        )
