"""The unlearning methods: one file a method, one function a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ungan_dist.config import FineTuningConfig, OriginalConfig, RetrainConfig, UnGANConfig
from ungan_dist.methods.fine_tuning import fine_tuning
from ungan_dist.methods.original import original
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.retrain import retrain
from ungan_dist.methods.ungan import ungan

METHODS: dict[type, Callable[[Request, Any], Unlearned]] = {
    OriginalConfig: original,
    RetrainConfig: retrain,
    FineTuningConfig: fine_tuning,
    UnGANConfig: ungan,
}
"""Config type → method."""

__all__ = ["METHODS", "Request", "Unlearned"]
