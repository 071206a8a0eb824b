"""Your own method: call its function, and check what it returns."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from ungan_dist.config.methods.own import OwnMethodConfig
from ungan_dist.config.own.options import NoOptions
from ungan_dist.config.own.source import hash_source, other_source
from ungan_dist.methods.request import Request, Unlearned


def own(request: Request, config: OwnMethodConfig) -> Unlearned:
    """Call the function with the request, and with its options if it takes any; its steps are not captured.

    Raises:
        ImportError: its source, or the version of its package, is not that of the plan.
        ValueError: it returns no model, or the given one.
    """
    function, options = config.find_function(), config.settings()
    if config.source and hash_source(config.path) != config.source:
        raise other_source(config.path)
    request = dataclasses.replace(request, steps=None)
    result: Any = function(request) if isinstance(options, NoOptions) else function(request, options)
    if not isinstance(result, nn.Module | Unlearned):
        raise ValueError(f"{config.path} must return an nn.Module or Unlearned, got {type(result).__name__}")
    unlearned = result if isinstance(result, Unlearned) else Unlearned(model=result, curves={})
    if unlearned.model is request.original or unlearned.model is request.fresh:
        raise ValueError(
            f"{config.path} returned a model of the request itself: start from request.copy_original() or "
            f"request.copy_fresh()"
        )
    return dataclasses.replace(unlearned, model=unlearned.model.eval())
