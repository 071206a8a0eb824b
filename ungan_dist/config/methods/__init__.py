"""The table of methods. Every other list of methods, and every title and help text about them, derives from it.

A new method needs three things: one line in ``MethodConfigs``, one config class in this folder, and one function
in ``ungan_dist/methods``. Nothing here imports torch or numpy, so ``--help`` stays instant.
"""

# ruff: noqa: RUF009 - method() returns a dataclass field

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ungan_dist.config.checks import ADDED
from ungan_dist.config.methods.baselines import (
    AdvNegGradsConfig,
    CFkConfig,
    FineTuningConfig,
    NegGradsConfig,
    OriginalConfig,
    RandomLabelsConfig,
    RetrainConfig,
    UnlearnedConfig,
)
from ungan_dist.config.methods.own import OwnMethodConfig
from ungan_dist.config.methods.rivals import (
    BadTeacherConfig,
    DeleteConfig,
    InfluenceConfig,
    L1SparseConfig,
    SalUnConfig,
    SSDConfig,
)
from ungan_dist.config.methods.scrub import SCRUBConfig
from ungan_dist.config.methods.ungan import CONTROLS, UNGAN_VARIANTS, UnGANConfig
from ungan_dist.config.methods.ungan_bce import BCE_VARIANTS, UnGANBCEConfig
from ungan_dist.config.methods.ungan_joint import JOINT_VARIANTS, UnGANJointConfig
from ungan_dist.config.methods.unsir import UNSIRConfig
from ungan_dist.config.own.functions import check_own, is_own, name_options
from ungan_dist.errors import suggest

Config = TypeVar("Config")


def method(
    title: str,
    config: Callable[[], Config],
    function: str,
    *,
    variants: Mapping[str, dict[str, Any]] | None = None,
    by_default: bool = True,
) -> Config:
    """Define one line of the table.

    Args:
        title: the method's name in reports.
        config: its config class.
        function: ``module:function`` below ``ungan_dist.methods``, imported on first use.
        variants: further rows of the report, each with the config fields that it changes.
        by_default: whether a report has this row unless ``methods`` names others. The options of a row that was added
            without it are left out of a run's identity at their defaults.
    """
    facts = {"title": title, "function": function, "variants": variants or {}, "by_default": by_default}
    return field(default_factory=config, metadata=facts | ({} if by_default else ADDED))


@dataclass(frozen=True, kw_only=True)
class MethodConfigs:
    """The table: a field is a method's name on the command line, its value the method's options."""

    original: OriginalConfig = method("Original", OriginalConfig, "original:original")
    retrain: RetrainConfig = method("Retrain", RetrainConfig, "retrain:retrain")
    fine_tuning: FineTuningConfig = method("Fine-Tuning", FineTuningConfig, "fine_tuning:fine_tuning")
    random_labels: RandomLabelsConfig = method("Random Labels", RandomLabelsConfig, "random_labels:random_labels")
    neg_grads: NegGradsConfig = method("Neg Grads", NegGradsConfig, "neg_grads:neg_grads")
    adv_neg_grads: AdvNegGradsConfig = method("Adv. Neg Grads", AdvNegGradsConfig, "adv_neg_grads:adv_neg_grads")
    unsir: UNSIRConfig = method("UNSIR", UNSIRConfig, "unsir:unsir")
    scrub: SCRUBConfig = method("SCRUB", SCRUBConfig, "scrub:scrub")
    cf_k: CFkConfig = method("CF-k", CFkConfig, "cf_k:cf_k")
    ungan: UnGANConfig = method("UnGAN", UnGANConfig, "ungan.algorithm:ungan", variants=UNGAN_VARIANTS)
    ungan_joint: UnGANJointConfig = method(
        "UnGAN joint", UnGANJointConfig, "ungan.joint:ungan_joint", variants=JOINT_VARIANTS, by_default=False
    )
    ungan_bce: UnGANBCEConfig = method(
        "UnGAN, BCE", UnGANBCEConfig, "ungan.bce:ungan_bce", variants=BCE_VARIANTS, by_default=False
    )
    ssd: SSDConfig = method("SSD", SSDConfig, "ssd:ssd", by_default=False)
    salun: SalUnConfig = method("SalUn", SalUnConfig, "salun:salun", by_default=False)
    bad_teacher: BadTeacherConfig = method("Bad Teacher", BadTeacherConfig, "bad_teacher:bad_teacher", by_default=False)
    l1_sparse: L1SparseConfig = method("ℓ1-sparse", L1SparseConfig, "l1_sparse:l1_sparse", by_default=False)
    influence: InfluenceConfig = method("Influence", InfluenceConfig, "influence:influence", by_default=False)
    delete: DeleteConfig = method("DELETE", DeleteConfig, "delete:delete", by_default=False)


class MethodRow(NamedTuple):
    """One row of a report."""

    title: str
    function: str
    config: type
    """Config class of the method."""
    field: str | None
    """Field of ``MethodConfigs`` that holds the options; None for a model that was unlearned elsewhere."""
    changes: Mapping[str, Any] = {}
    """Config fields that a variant changes."""


def _rows() -> dict[str, MethodRow]:
    lines = dataclasses.fields(MethodConfigs)
    rows = {
        line.name: MethodRow(line.metadata["title"], line.metadata["function"], _config_class(line), line.name)
        for line in lines
    }
    rows["unlearned"] = MethodRow("Unlearned elsewhere", "unlearned:unlearned", UnlearnedConfig, None)
    for line in lines:
        for name, changes in line.metadata["variants"].items():
            words = name.removeprefix(f"{line.name}_").replace("_", " ")
            rows[name] = rows[line.name]._replace(title=f"{line.metadata['title']}, {words}", changes=changes)
    return rows


def _config_class(line: dataclasses.Field[Any]) -> type:
    factory: Any = line.default_factory
    return factory


ROWS: dict[str, MethodRow] = _rows()
"""Name on the command line → row of a report."""
TITLES: dict[str, str] = {name: row.title for name, row in ROWS.items()}


def title_of(name: str) -> str:
    """Return the title of a row: of a method of the user's own, the name of its function.

    Examples:
        >>> title_of("cf_k"), title_of("mypackage.forget:my_method")
        ('CF-k', 'my_method')
    """
    return name_options(name) if is_own(name) else TITLES.get(name, name)


DEFAULT_ROWS: tuple[str, ...] = (
    *(line.name for line in dataclasses.fields(MethodConfigs) if line.metadata["by_default"]),
    *CONTROLS,
)
"""Rows of a report unless ``methods`` names others."""


def is_control(name: str) -> bool:
    """Return whether a row is a control of UnGAN: without its adversary, or with a critic that is never trained.

    Examples:
        >>> is_control("ungan_joint_no_adversary"), is_control("ungan_joint")
        (True, False)
    """
    return name.endswith(("_no_adversary", "_random_critic"))


def is_method(name: str) -> bool:
    """Return whether a row is an unlearning method, which verdicts are counted of: no model before it, no control."""
    return name not in ("original", "retrain") and not is_control(name)


def check_method(name: str) -> None:
    """Raise ValueError, with the known names, unless ``name`` is a row of the table or a method of the user's own."""
    if is_own(name):
        check_own(name)
    elif name not in tuple(ROWS):  # a name of the wrong type may have no hash
        raise ValueError(
            f"unknown method {name!r}{suggest(str(name), ROWS)}; known: {', '.join(ROWS)}; "
            f"or module:function of your own"
        )


def function_path(config: object) -> str:
    """Return ``module:function`` of the method that a config belongs to."""
    if isinstance(config, OwnMethodConfig):
        return "ungan_dist.methods.own:own"
    return "ungan_dist.methods." + next(row.function for row in ROWS.values() if row.config is type(config))
