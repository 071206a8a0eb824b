"""Original: the model as trained. The row that the others are measured from."""

from __future__ import annotations

from ungan_dist.config.methods import OriginalConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.models import trainable_copy


def original(request: Request, config: OriginalConfig) -> Unlearned:
    """A copy of the original, nothing done."""
    del config
    return Unlearned(model=trainable_copy(request.original).eval(), curves={})
