"""Original: the model as trained, with which every other row is compared."""

from __future__ import annotations

from ungan_dist.config.methods import OriginalConfig
from ungan_dist.methods.request import Request, Unlearned


def original(request: Request, config: OriginalConfig) -> Unlearned:
    """Return a copy of the original."""
    del config
    return Unlearned(model=request.copy_original().eval(), curves={})
