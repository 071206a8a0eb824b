"""A request small enough to be worked through step by step in float64."""

from __future__ import annotations

import functools

import torch

from ungan_dist.testing import NUM_CLASSES, make_request

__all__ = ["NUM_CLASSES", "tiny_request"]

tiny_request = functools.partial(make_request, seed=3, dtype=torch.float64)
