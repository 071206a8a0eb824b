"""Unlearned: a model that was unlearned elsewhere, read from its file."""

from __future__ import annotations

from ungan_dist.config.methods import UnlearnedConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.given_weights import GivenWeights, load_given_weights


def unlearned(request: Request, config: UnlearnedConfig) -> Unlearned:
    """Load the given weights. The time T_U of this row is the time of reading them."""
    weights = GivenWeights(path=config.weights, sha256=config.sha256, key=config.key)
    return Unlearned(model=load_given_weights(request.copy_fresh(), weights), curves={})
