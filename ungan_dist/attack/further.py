"""Further attacks from the log-odds that LiRA needs anyway: RMIA, calibrated loss and loss.

Each has one score per example, and a higher score means member. None trains a model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.special import expit

from ungan_dist.attack.arrays import Values, to_numpy, to_positions
from ungan_dist.attack.lira import examples_per_chunk
from ungan_dist.attack.moments import compute_moments


@dataclass(frozen=True, kw_only=True)
class ReferenceModels:
    """What the shadow models say about each example of the pool, on average."""

    confidence: Float64[np.ndarray, " pool"]
    """Mean confidence in the true class, half of it over IN and half over OUT models; offline an estimate of it."""
    out_log_odds: Float64[np.ndarray, " pool"]
    """Mean log-odds of the OUT models."""

    def score(
        self, target_log_odds: Float[np.ndarray, "pool queries"], non_members: Int[np.ndarray, " rest"]
    ) -> dict[str, Float64[np.ndarray, " pool"]]:
        """Compute the scores of every further attack, by its name.

        Args:
            target_log_odds: log-odds of the attacked model.
            non_members: positions of examples that it has not seen: RMIA's population.
        """
        phi = target_log_odds.mean(1, dtype=np.float64)
        confidence = expit(target_log_odds.astype(np.float64)).mean(1)
        return {
            "rmia": relative_membership(confidence, self.confidence, non_members),
            "calibrated_loss": phi - self.out_log_odds,
            "loss": phi,
        }


def fit_reference_models(
    log_odds: Float[np.ndarray, "models pool queries"],
    membership: Bool[np.ndarray, "models pool"],
    *,
    offline: bool = False,
    offline_a: float = 1 / 3,
) -> ReferenceModels:
    """Average the shadow models.

    Args:
        log_odds: log-odds of every shadow model.
        membership: True where a shadow model was trained on an example; each example needs IN and OUT models.
        offline: use the OUT models alone, as an attacker does who trains no model on the examples in question.
        offline_a: RMIA's constant a, with which the offline mean is ``((1 + a) · mean OUT + 1 − a) / 2``.
    """
    num_models, num_examples, num_queries = log_odds.shape
    step = examples_per_chunk(num_models, num_queries)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, num_examples, step):
        some = slice(start, start + step)
        phi, is_in = log_odds[:, some].astype(np.float64), membership[:, some]
        confidence = expit(phi).mean(2)
        mean_out = compute_moments(confidence, ~is_in).mean
        # offline, p̄ is ((1 + a) · mean OUT + 1 − a) / 2
        mean_in = 1 - offline_a + offline_a * mean_out if offline else compute_moments(confidence, is_in).mean
        parts.append(((mean_in + mean_out) / 2, compute_moments(phi.mean(2), ~is_in).mean))
    confidence, out = (np.concatenate(field) for field in zip(*parts, strict=True))
    return ReferenceModels(confidence=confidence, out_log_odds=out)


def relative_membership(
    confidence: Values, reference: Values, population: Values, *, gamma: float = 1.0
) -> Float64[np.ndarray, " examples"]:
    """Compute RMIA's score: the share of the population that an example dominates.

    An example x dominates z if ``(p(x) / p̄(x)) / (p(z) / p̄(z)) > γ``, where p is the attacked model's confidence in the
    true class and p̄ the mean confidence of reference models. An example of the population is not compared with itself.

    Args:
        confidence: p of each example, in [0, 1].
        reference: p̄ of each example, in [0, 1].
        population: positions of the examples that serve as z.
        gamma: γ, > 0.

    Raises:
        ValueError: shapes do not fit, a confidence is outside [0, 1], γ is not positive, or nothing is left as z.

    Examples:
        >>> relative_membership([0.9, 0.5, 0.2, 0.4], [0.5, 0.5, 0.5, 0.5], population=[1, 2, 3])
        array([1. , 1. , 0. , 0.5])

    Source: Zarifzadeh, Liu & Shokri 2024, eq. 4 and 5.
    """
    own, mean = (to_numpy("confidence", values).astype(np.float64) for values in (confidence, reference))
    if own.ndim != 1 or own.shape != mean.shape:
        raise ValueError(f"confidence and reference must have one value per example, got {own.shape} and {mean.shape}")
    for name, values in (("confidence", own), ("reference", mean)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} must lie in [0, 1]")
    if not 0 < gamma < np.inf:
        raise ValueError(f"gamma must be greater than 0 and finite, got {gamma}")
    chosen = to_positions("population", population, len(own))
    if len(chosen) < 2:
        raise ValueError(f"RMIA needs a population of 2 examples or more, got {len(chosen)}")
    least = np.finfo(np.float64).tiny
    ratio = np.log(np.maximum(own, least)) - np.log(np.maximum(mean, least))
    ordered = np.sort(ratio[chosen])
    below = np.searchsorted(ordered, ratio - np.log(gamma), side="left")
    is_z = np.zeros(len(own), dtype=bool)
    is_z[chosen] = True
    # with γ < 1 an example would dominate itself
    itself = is_z & (ratio < ratio - np.log(gamma))
    return (below - itself) / (len(chosen) - is_z)
