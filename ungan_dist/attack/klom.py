"""KLOM: the KL divergence of margins between unlearned and retrained models, example by example.

Source: Rinberg, Garg et al., "Attribute-to-Delete: Machine Unlearning via Datamodel Matching" (2025). The binning is
that of their public code: 20 bins over the range of both samples, margins clipped to ±100, and at least 1e-5 in the
bins of the retrained models. No verdict takes it into account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from ungan_dist.attack.estimates import KLOM
from ungan_dist.attack.ulira import UnlearnedFleet
from ungan_dist.attack.verdicts import REFERENCE

NUM_BINS = 20
SMALLEST = 1e-5
"""Least probability of a bin of the retrained models."""
LARGEST_MARGIN = 100.0
MIN_MODELS = 16
"""Fewest models of either kind that had an example: half of the shadow models."""
PERCENTILE = 95.0


def measure_klom(unlearned: Float[np.ndarray, " models"], retrained: Float[np.ndarray, " others"]) -> float:
    """Return the KL divergence of the unlearned models' margins from those of retrained models, in nats.

    The margin is the logit of the true class minus the log-sum-exp of the others, which is the log-odds. The largest
    value counts to the last bin, where the authors' code leaves it out.

    Examples:
        >>> margins = np.arange(40.0)
        >>> abs(round(measure_klom(margins, margins), 6))
        0.0
        >>> round(measure_klom(np.full(40, 3.0), np.full(40, -3.0)), 2)
        11.51
    """
    samples = [np.clip(np.asarray(one, np.float64), -LARGEST_MARGIN, LARGEST_MARGIN) for one in (unlearned, retrained)]
    low, high = min(one.min() for one in samples), max(one.max() for one in samples)
    edges = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1)
    p, q = (np.histogram(one, edges)[0] / len(one) for one in samples)
    held = p > 0
    q = np.where(held, np.maximum(q, SMALLEST), q)
    return float(np.sum(p[held] * np.log(p[held] / (q[held] / q.sum()))))


def measure_examples(
    unlearned: Float[np.ndarray, "models forget"],
    retrained: Float[np.ndarray, "models forget"],
    had: Bool[np.ndarray, "models forget"],
) -> Float64[np.ndarray, " forget"]:
    """Return the KLOM of each forget example, over the models that had it and forgot it."""
    return np.array(
        [measure_klom(unlearned[of, example], retrained[of, example]) for example, of in enumerate(had.T)],
        dtype=np.float64,
    )


def compare_fleets(fleets: Mapping[str, Mapping[int, UnlearnedFleet]], plain: int | None) -> dict[str, KLOM | str]:
    """Measure the KLOM of every method against Retrain, on the shadow models that both unlearned.

    Args:
        fleets: method → audit seed → its unlearned shadow models.
        plain: index of the query without shift or flip; None if no query is.

    Returns:
        The measurements by method, or the reason for their absence. Empty if no shadow model was retrained.
    """
    references = fleets.get(REFERENCE, {})
    found: dict[str, KLOM | str] = {}
    for method, of in fleets.items():
        seeds = sorted(of.keys() & references.keys())
        if method == REFERENCE or not seeds:
            continue
        if plain is None:
            found[method] = "n/a (needs the query plain)"
            continue
        pairs = [_align(of[seed], references[seed]) for seed in seeds]
        num_models = min(int(had.sum(0).min()) for _, _, had in pairs)
        if num_models < MIN_MODELS:
            found[method] = f"n/a (needs ≥ {2 * MIN_MODELS} unlearned shadow models)"
            continue
        values = [measure_examples(own[..., plain], other[..., plain], had) for own, other, had in pairs]
        found[method] = KLOM(
            mean=[float(one.mean()) for one in values],
            percentile_95=[float(np.percentile(one, PERCENTILE)) for one in values],
            num_models=num_models,
        )
    return found


def _align(
    own: UnlearnedFleet, other: UnlearnedFleet
) -> tuple[Float[np.ndarray, "models forget queries"], Float[np.ndarray, "models forget queries"], np.ndarray]:
    """Return the log-odds of the shadow models that two methods share, and the membership before unlearning."""
    common = sorted(set(own.shadows) & set(other.shadows))
    rows, others = _places(own.shadows, common), _places(other.shadows, common)
    return own.log_odds[rows], other.log_odds[others], own.membership[rows]


def _places(shadows: Sequence[int], wanted: Sequence[int]) -> Int[np.ndarray, " models"]:
    return np.array([shadows.index(shadow) for shadow in wanted], dtype=np.int64)
