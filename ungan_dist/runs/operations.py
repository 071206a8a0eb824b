"""The kernel operations of each unit, and the part of a run's resolved settings that the unit's id holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from ungan_dist.config.audit import method_config
from ungan_dist.config.training import CAPTURING
from ungan_dist.kernels import find_obstacle
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.methods.ungan.kernel_uses import list_kernel_uses
from ungan_dist.runs.record import RunRecord
from ungan_dist.training.evaluate import BATCH_SIZE

NOT_IN_IDS = ("kernels", "engine_choice")
"""Resolved settings that describe a choice; an id holds only what follows from them for its own unit."""


def fused_operations(resolved: dict[str, Any]) -> tuple[str, ...]:
    """Return the operations that a run computes with fused kernels."""
    if "kernels" not in resolved:  # earlier versions
        return tuple(resolved.get("fused", ()))
    choices = resolved["kernels"]["choices"]
    return tuple(sorted(name for name, verdict in choices.items() if verdict["choice"] == "fused"))


def settings_of_unit(resolved: dict[str, Any], operations: Collection[str]) -> dict[str, Any]:
    """Return the resolved settings that determine the result of a unit with these operations.

    Examples:
        >>> choices = {name: {"choice": "fused", "blocks": name[:2]} for name in ("log_odds", "critic_loss")}
        >>> settings_of_unit({"device": "cuda", "kernels": {"choices": choices}}, ["log_odds"])
        {'device': 'cuda', 'fused': {'log_odds': 'lo'}}
    """
    settings = {name: value for name, value in resolved.items() if name not in NOT_IN_IDS}
    if "kernels" not in resolved:
        return settings
    choices = resolved["kernels"]["choices"]
    fused = {name: choices[name]["blocks"] for name in fused_operations(resolved) if name in operations}
    return settings | ({"fused": fused} if fused else {})


def uses_of_training(record: RunRecord) -> list[KernelUse]:
    """List the operations that train and query a shadow model or an original."""
    augment, has_features = record.config.train.augment, record.features is not None
    height, width = (0, 0) if has_features or record.input_size is None else record.input_size
    picture = {"height": height, "width": width, "channels": record.channels, "batch": record.config.train.batch_size}
    draws = {"padding": augment.padding, "flip": augment.flip}
    # its epoch is a constant of the call, which a captured step would repeat
    obstacle = "captured steps take crops as tensors" if record.resolved["engine"] in CAPTURING else None
    obstacle = "a transform of your own follows" if augment.factory is not None else obstacle
    obstacle = "the examples are no pictures" if has_features else obstacle
    return [
        KernelUse(operation="gather_augmented", shapes=picture | draws, obstacle=obstacle),
        KernelUse(operation="log_odds", shapes={"models": 1, "batch": BATCH_SIZE, "classes": record.num_classes}),
    ]


def uses_of_target(record: RunRecord, method: str) -> list[KernelUse]:
    """List the operations of a target: its method's, and those that every unit uses."""
    own = list_kernel_uses(
        method_config(record.config, method),
        num_classes=record.num_classes,
        batch_size=record.config.train.batch_size,
        num_forget=record.config.split.num_forget,
        num_unseen=record.config.split.unseen,
    )
    return [*uses_of_training(record), *own]


def settings_of_target(record: RunRecord, method: str) -> dict[str, Any]:
    """Return the resolved settings in the id of a target."""
    return settings_of_unit(record.resolved, _names(uses_of_target(record, method)))


def settings_of_shadows(record: RunRecord) -> dict[str, Any]:
    """Return the resolved settings in the ids of shadow models."""
    return settings_of_unit(record.resolved, _names(uses_of_training(record)))


def fused_for_target(record: RunRecord, method: str) -> tuple[str, ...]:
    """Return the operations that a target computes with fused kernels."""
    return _fused_of(record, uses_of_target(record, method))


def fused_for_shadows(record: RunRecord) -> tuple[str, ...]:
    """Return the operations that shadow models compute with fused kernels."""
    return _fused_of(record, uses_of_training(record))


def judged_devices(record: RunRecord) -> tuple[str, ...]:
    """Return the kinds of device that a run's fused kernels were judged on; empty if none is fused."""
    return tuple(record.resolved["kernels"]["devices"]) if fused_operations(record.resolved) else ()


def describe_gpu(index: int | None = None) -> str:
    """Return the kind of a GPU of this machine, by default the current one: its name and capability."""
    major, minor = torch.cuda.get_device_capability(index)
    return f"{torch.cuda.get_device_name(index)}, sm_{major}{minor}"


def units_per_gpu(record: RunRecord) -> int:
    """Return how many units of shadow models a GPU takes at once, as measured for the run; else one."""
    return int(record.resolved.get("engine_choice", {}).get("units_per_gpu", 1))


def describe_engine(record: RunRecord) -> str:
    """Describe how a run executes the steps of its models, and why."""
    engine, choice = record.resolved["engine"], record.resolved.get("engine_choice")
    if choice is not None:
        units = choice["units_per_gpu"]
        return f"{engine}: {choice['reason']}" + (f"; {units} units a GPU" if units > 1 else "")
    if record.config.shadows.engine != "auto":
        return f"{engine}: asked for"
    return f"{engine}: not measured" + (", as nothing is gained on a CPU" if record.resolved["device"] == "cpu" else "")


def describe_kernels(record: RunRecord) -> dict[str, str]:
    """Describe which implementation of each operation a run uses, and why."""
    uses = [use for method in record.config.methods for use in uses_of_target(record, method)]
    choices = record.resolved.get("kernels", {"choices": {}})["choices"]
    found: dict[str, str] = {}
    for operation in sorted({use.operation for use in uses}):
        verdict = choices.get(operation)
        if verdict is None:
            reason = find_obstacle(operation, str(record.resolved["device"])) or "not judged"
            found[operation] = f"reference: {reason}"
        else:
            found[operation] = f"{verdict['choice']}: {verdict['reason']}"
    return found


def _fused_of(record: RunRecord, uses: list[KernelUse]) -> tuple[str, ...]:
    operations = _names(uses)
    return tuple(name for name in fused_operations(record.resolved) if name in operations)


def _names(uses: list[KernelUse]) -> set[str]:
    return {use.operation for use in uses if use.obstacle is None}
