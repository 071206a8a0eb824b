"""Unlearned: a model that was unlearned elsewhere, read from its file."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.config import UnlearnedConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.models import trainable_copy
from ungan_dist.weights import load_given


def unlearned(request: Request, config: UnlearnedConfig) -> Unlearned:
    """The given model; its T_U here is the time of reading it."""
    return Unlearned(model=load_given(trainable_copy(request.fresh), Path(config.weights)).eval(), curves={})
