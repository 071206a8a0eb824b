"""The unlearning methods, one file or folder each. Their names and options are in ``ungan_dist.config.methods``."""

from __future__ import annotations

import importlib
from typing import Any

from ungan_dist.config.methods import function_path
from ungan_dist.methods.request import Request, Unlearned

__all__ = ["Request", "Unlearned", "run_method"]


def run_method(request: Request, config: Any) -> Unlearned:
    """Run the method that the config belongs to."""
    module, _, name = function_path(config).partition(":")
    return getattr(importlib.import_module(module), name)(request, config)
