"""Loss against Retrain: an attack on models that forgot whole classes.

A shadow model without an example still knows its class from other examples. It is thus no model of a world without the
class, and LiRA's Gaussians do not fit a model that has lost it. Retrain never saw the class. The score of an example is
therefore a model's log-odds, minus the mean over Retrain of the other audit seeds: what the model knows of the example
beyond how hard it is for models without the class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, kw_only=True)
class RetrainedModels:
    """Log-odds of the retrained models."""

    log_odds: Mapping[int, Float64[np.ndarray, " pool"]]
    """Mean over the queries and over the retrainings of a seed, by seed."""

    def score(self, seed: int, target: Float64[np.ndarray, " pool"]) -> Float64[np.ndarray, " pool"]:
        """Score a model of one seed by Retrain of the other seeds, or with a single seed by that of its own.

        All methods of a seed have the same reference, Retrain among them. With a single seed, Retrain's own scores are
        thus 0, and its AUC is .5.

        Args:
            seed: the model's audit seed.
            target: its log-odds, mean over the queries.

        Examples:
            >>> models = RetrainedModels(log_odds={0: np.array([1.0, 2.0]), 1: np.array([3.0, 5.0])})
            >>> models.score(0, np.array([4.0, 4.0]))
            array([ 1., -1.])
        """
        others = [values for one, values in self.log_odds.items() if one != seed] or list(self.log_odds.values())
        return target - np.mean(others, axis=0)
