"""The unlearning methods, one file or folder each. Their names and options are in ``ungan_dist.config.methods``."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

from ungan_dist.config.methods import OwnMethodConfig, function_path
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.guard import guarded

__all__ = ["Request", "Unlearned", "guard_request", "run_method"]


def run_method(request: Request, config: Any) -> Unlearned:
    """Run the method that the config belongs to."""
    module, _, name = function_path(config).partition(":")
    return getattr(importlib.import_module(module), name)(request, config)


def guard_request(request: Request, config: Any) -> contextlib.AbstractContextManager[None]:
    """Refuse what a method of the user's own changes in place: its request, or settings of the process.

    It takes time, so measure T_U within it.

    Examples:
        >>> from ungan_dist.config.methods import OwnMethodConfig
        >>> from ungan_dist.testing import make_request
        >>> request = make_request()
        >>> with guard_request(request, OwnMethodConfig(path="mine:forget")):
        ...     _ = request.retain.zero_()
        Traceback (most recent call last):
        ungan_dist.training.guard.SharedStateChanged: mine:forget changed request.retain in place, ...
    """
    if not isinstance(config, OwnMethodConfig):
        return contextlib.nullcontext()
    sets = {f"request.{name}": getattr(request, name) for name in ("retain", "forget", "unseen")}
    models = {"request.original": request.original, "request.fresh": request.fresh}
    return guarded(config.path, request.data, tensors=sets, models=models)
