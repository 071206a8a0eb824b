"""The unlearning methods: one file a method, one function a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    CFkConfig,
    FineTuningConfig,
    NegGradsConfig,
    OriginalConfig,
    RandomLabelsConfig,
    RetrainConfig,
    SCRUBConfig,
    UnGANConfig,
    UnlearnedConfig,
    UNSIRConfig,
)
from ungan_dist.methods.adv_neg_grads import adv_neg_grads
from ungan_dist.methods.cf_k import cf_k
from ungan_dist.methods.fine_tuning import fine_tuning
from ungan_dist.methods.neg_grads import neg_grads
from ungan_dist.methods.original import original
from ungan_dist.methods.random_labels import random_labels
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.retrain import retrain
from ungan_dist.methods.scrub import scrub
from ungan_dist.methods.ungan.algorithm import ungan
from ungan_dist.methods.unlearned import unlearned
from ungan_dist.methods.unsir import unsir

METHODS: dict[type, Callable[[Request, Any], Unlearned]] = {
    OriginalConfig: original,
    RetrainConfig: retrain,
    FineTuningConfig: fine_tuning,
    RandomLabelsConfig: random_labels,
    NegGradsConfig: neg_grads,
    AdvNegGradsConfig: adv_neg_grads,
    UNSIRConfig: unsir,
    SCRUBConfig: scrub,
    CFkConfig: cf_k,
    UnGANConfig: ungan,
    UnlearnedConfig: unlearned,
}
"""Config type → method."""

__all__ = ["METHODS", "Request", "Unlearned"]
