"""Machine unlearning with UnGAN and other methods, and the audit by membership inference that compares them.

Public names are imported on first use, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Report as Report
    from ungan_dist.config import recipes as recipes
    from ungan_dist.config.audit import AuditConfig as AuditConfig
    from ungan_dist.launch import audit as audit
    from ungan_dist.loading import load as load
    from ungan_dist.loading import load_p_values as load_p_values
    from ungan_dist.loading import preprocess as preprocess
    from ungan_dist.runs.progress import Event as Event
    from ungan_dist.tracking.tracker import Tracker as Tracker
    from ungan_dist.unlearning import ForgetData as ForgetData
    from ungan_dist.unlearning import unlearn as unlearn

__version__ = "0.1.0"

_HOMES = {
    "AuditConfig": "ungan_dist.config.audit",
    "Event": "ungan_dist.runs.progress",
    "Report": "ungan_dist.attack.evidence",
    "audit": "ungan_dist.launch",
    "ForgetData": "ungan_dist.unlearning",
    "load": "ungan_dist.loading",
    "load_p_values": "ungan_dist.loading",
    "preprocess": "ungan_dist.loading",
    "Tracker": "ungan_dist.tracking.tracker",
    "unlearn": "ungan_dist.unlearning",
}

__all__ = [
    "AuditConfig",
    "Event",
    "ForgetData",
    "Report",
    "Tracker",
    "audit",
    "load",
    "load_p_values",
    "preprocess",
    "recipes",
    "unlearn",
]


def __getattr__(name: str) -> Any:
    if name == "recipes":
        return importlib.import_module("ungan_dist.config.recipes")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
