"""Functions that the processes of a world run: every method on the same global batches, in a world of any size."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import keeping_models
import numpy as np
import shared_models
import torch
from tiny_request import tiny_request
from torch import Tensor, nn

from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    BadTeacherConfig,
    CFkConfig,
    DeleteConfig,
    FineTuningConfig,
    InfluenceConfig,
    L1SparseConfig,
    NegGradsConfig,
    OriginalConfig,
    RandomLabelsConfig,
    RetrainConfig,
    SalUnConfig,
    SCRUBConfig,
    SSDConfig,
    UnGANBCEConfig,
    UnGANConfig,
    UnGANJointConfig,
    UNSIRConfig,
)
from ungan_dist.data.examples import Examples, gather
from ungan_dist.kernels import log_odds
from ungan_dist.methods import Request, run_method
from ungan_dist.runs import shadows
from ungan_dist.runs.shadows import ShadowUnit, train_shadows
from ungan_dist.training.batch_norm import check_replicas, use_global_statistics
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.models import frozen_copy
from ungan_dist.training.world import World

BATCH = 5
"""Two processes have 3 and 2 rows of it, of three the last has none: a share has two rows at least."""

SMALL = UnGANConfig(
    epochs=2,
    critic_steps=3,
    generator_steps=3,
    finetune_steps=6,
    critic_widths=(16, 15, 14),
    critic_learning_rate=0.01,
)


def _ungan(**changes: Any) -> UnGANConfig:
    return dataclasses.replace(SMALL, **changes)


CONFIGS: dict[str, Any] = {
    "original": OriginalConfig(),
    "retrain": RetrainConfig(),
    "fine_tuning": FineTuningConfig(epochs=4, momentum=0.9),
    "random_labels": RandomLabelsConfig(epochs=3),
    "random_labels, redrawn": RandomLabelsConfig(epochs=3, redraw=True, exclude_true=True),
    "neg_grads": NegGradsConfig(epochs=8, repair_epochs=1),
    "adv_neg_grads": AdvNegGradsConfig(epochs=4),
    "adv_neg_grads, alpha": AdvNegGradsConfig(epochs=4, alpha=0.95),
    "cf_k": CFkConfig(epochs=4),
    "cf_k, statistics": CFkConfig(k=2, epochs=4, train_classifier=False, update_frozen_statistics=True),
    "unsir": UNSIRConfig(impair_epochs=3),
    "unsir, forget": UNSIRConfig(impair_pass="forget", impair_epochs=8),
    "unsir, mufac": UNSIRConfig(variant="mufac", impair_epochs=3),
    "unsir, class": UNSIRConfig(
        variant="class", noise_steps=3, noise_copies=1, retain_per_class=4, impair_epochs=2, repair_epochs=2
    ),
    "scrub": SCRUBConfig(retain_batch_size=BATCH, forget_batch_size=3),
    "scrub, small": SCRUBConfig(preset="small_scale", epochs=4),
    "scrub, rewind": SCRUBConfig(preset="mia", epochs=4, rewind=True),
    "ungan": SMALL,
    "ungan, all pairs": _ungan(estimator="all_pairs"),
    "ungan, energy": _ungan(surrogate="energy", epsilon_per="batch"),
    "ungan, all pairs, energy": _ungan(estimator="all_pairs", surrogate="energy"),
    "ungan, as written": _ungan(penalty="as_written", penalty_of="embedding_sum", kl_direction="teacher_first"),
    "ungan, norm": _ungan(penalty_of="embedding_norm", optimizers="separate", augment_adversarial=True),
    "ungan, jacobian": _ungan(penalty_of="jacobian", critic_input="softmax", mix_labels=False),
    "ungan, train": _ungan(batch_norm="train"),
    "ungan, no adversary": _ungan(critic_steps=0, generator_steps=0),
    "ungan, random critic": _ungan(critic_steps=0),
    "ungan_joint": UnGANJointConfig(epochs=4),
    "ungan_joint, within classes": UnGANJointConfig(epochs=4, within="classes", forget_batch_size=4),
    "ungan_joint, critic": UnGANJointConfig(
        epochs=3, distance="critic", critic_widths=(16, 15, 14), critic_steps=2, critic_pretraining=5
    ),
    "ungan_bce": UnGANBCEConfig(
        epochs=3, critic_steps=2, critic_pretraining=5, critic_widths=(9, 8), forget_batch_size=4
    ),
    "ssd": SSDConfig(selection_weighting=1.0),
    "salun": SalUnConfig(epochs=3),
    "bad_teacher": BadTeacherConfig(epochs=4),
    "l1_sparse": L1SparseConfig(epochs=4),
    "influence": InfluenceConfig(alpha=2.0),
    "delete": DeleteConfig(epochs=8, learning_rate=0.01),
}
"""Twenty steps or more of every method and of its variants."""
OF_THREE = (
    "ungan",
    "ungan, all pairs",
    "ungan, all pairs, energy",
    "unsir",
    "unsir, mufac",
    "unsir, class",
    "ungan_joint",
    "ungan_bce",
)
"""What is also tried in a world of three, one of whose shares is empty."""


class FrozenBatchNorm(nn.BatchNorm2d):
    """A layer that is always in eval mode."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        return super().train(False)


def _settle(model: nn.Module, given: Request) -> None:
    """Set running statistics to those of the data; with the initial ones all outputs are nearly equal."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta, training = [norm.momentum for norm in norms], model.training
    model.train()
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(gather(given.data, given.retain))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


def request(world: World, statistics: str) -> Request:
    """Make a request with batch norms frozen, or with statistics of the global batch or of each process's share."""
    given = tiny_request()
    for model in (given.original, given.fresh):
        _settle(model, given)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and statistics == "frozen":
                module.__class__ = FrozenBatchNorm
                module.train()
        if statistics == "global" and world.size > 1:
            use_global_statistics(model, world)
    train = dataclasses.replace(given.train, batch_size=BATCH, epochs=4, learning_rate=0.05)
    return dataclasses.replace(given, world=world, train=train)


def outcome(world: World, name: str, statistics: str) -> dict[str, Tensor]:
    """Return the weights and statistics after a method, and its curves."""
    config = CONFIGS[name]
    unlearned = run_method(request(world, statistics), config)
    state = {key: value.detach().clone() for key, value in unlearned.model.state_dict().items()}
    curves = {key: torch.tensor(curve, dtype=torch.float64) for key, curve in unlearned.curves.items()}
    return {**state, **curves}


def outcomes(world: World, asked: list[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Tensor]]:
    return {(name, statistics): outcome(world, name, statistics) for name, statistics in asked}


def outcomes_without_reduced_critic(world: World, asked: list[tuple[str, str]]) -> dict[Any, dict[str, Tensor]]:
    """Return the same without summing the critic's gradients over processes."""
    reduce = World.reduce

    def all_but_the_critics(self: World, parameters: Any, **arguments: Any) -> None:
        parameters = list(parameters)
        if len(parameters) != 6:
            reduce(self, parameters, **arguments)

    World.reduce = all_but_the_critics
    try:
        return outcomes(world, asked)
    finally:
        World.reduce = reduce


class Interrupted(Exception):
    """Simulates the end of a process in the middle of a step."""


def resumable(
    world: World,
    name: str,
    folder: Path,
    *,
    stop_after: int | None,
    kill: bool = False,
    statistics: str = "global",
) -> Any:
    """Return weights and curves of a method that saves each epoch, and the number of steps of this attempt.

    Args:
        stop_after: number of steps before the attempt ends, by an exception or by SIGKILL to the last rank.
    """
    reduce, steps = World.reduce, 0

    def counted(self: World, *arguments: Any, **named: Any) -> None:
        nonlocal steps
        steps += 1
        if stop_after is not None and steps > stop_after and world.rank == world.size - 1:
            if kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Interrupted
        reduce(self, *arguments, **named)

    World.reduce = counted
    try:
        given = request(world, statistics)
        checkpoint = Checkpoint(folder, "checkpoints/0/method", id="an id", world=world)
        given = dataclasses.replace(given, checkpoint=checkpoint)
        unlearned = run_method(given, CONFIGS[name])
    finally:
        World.reduce = reduce
    curves = {key: torch.tensor(curve, dtype=torch.float64) for key, curve in unlearned.curves.items()}
    return {**unlearned.model.state_dict(), **curves}, steps


def resumable_together(world: World, name: str, folder: Path, kill_after: int | None) -> Any:
    return resumable(world, name, folder, stop_after=kill_after, kill=True)


def log_odds_of_shadows(world: World, unit: ShadowUnit) -> np.ndarray:
    """Return the results of a unit that a world trains in float64."""
    build, open_examples = shadows.build, shadows.open_examples

    def wide_build(*arguments: Any, **named: Any) -> nn.Module:
        return build(*arguments, **named).double()

    def wide_examples(*arguments: Any) -> Examples:
        data = open_examples(*arguments)
        return dataclasses.replace(data, table=data.table.double())

    shadows.build, shadows.open_examples = wide_build, wide_examples
    try:
        trained = train_shadows(unit, world)
        with torch.no_grad():
            logits = torch.stack([model(gather(trained.data, trained.pool)) for model in trained.models])
    finally:
        shadows.build, shadows.open_examples = build, open_examples
    return log_odds(logits, trained.data.labels[trained.pool]).numpy()


def resumable_on_own_statistics(world: World, folder: Path, kill_after: int | None) -> Any:
    return resumable(world, "unsir, class", folder, stop_after=kill_after, kill=True, statistics="own")


def of_model(world: World, name: str) -> dict[str, Tensor]:
    """Retrain a user's model with statistics of the global batch."""
    torch.manual_seed(0)
    model = getattr(shared_models, name)(tiny_request().data.num_classes).double()
    if world.size > 1:
        use_global_statistics(model, world)
    given = tiny_request()
    train = dataclasses.replace(given.train, batch_size=BATCH, epochs=4, learning_rate=0.05)
    given = dataclasses.replace(given, fresh=model, world=world, train=train)
    return run_method(given, RetrainConfig()).model.state_dict()


def of_one_example(world: World) -> dict[str, Tensor]:
    """Return the weights and statistics of methods with one forget and one retain example, and a batch norm of both."""
    states: dict[str, Tensor] = {}
    given = tiny_request()
    torch.manual_seed(0)
    model = keeping_models.mlp_bn(given.data.num_classes).double()
    model[4].p = 0.0
    _settle(model, given)
    if world.size > 1:
        use_global_statistics(model, world)
    one = {"retain": given.retain[:1], "forget": given.forget[:1], "original": frozen_copy(model), "fresh": model}
    for name in ("retrain", "neg_grads", "unsir", "scrub"):
        unlearned = run_method(dataclasses.replace(given, world=world, **one), CONFIGS[name])
        states |= {f"{name} {key}": value.detach().clone() for key, value in unlearned.model.state_dict().items()}
    return states


def refused_for_one_value(world: World) -> str:
    """Return how a shared batch norm refuses a single value per channel in all processes."""
    norm = use_global_statistics(nn.Sequential(nn.BatchNorm1d(3)), world).train()
    try:
        norm(torch.ones(1, 3) if world.rank == 0 else torch.ones(0, 3))
    except ValueError as error:
        return str(error)
    return "taken"


def dropped(world: World) -> Tensor:
    """Return a mask that a layer draws in an epoch."""
    (mask,) = (torch.rand(8) for _ in Epochs(None, world, 3).iterate("epochs", 1))
    return mask


def refused_for_buffers(world: World) -> bool:
    """Return whether a model with a buffer that depends on each process's rows is refused."""
    torch.manual_seed(0)
    model = shared_models.Counting(3)
    check_replicas(model, world, "a model")
    model(torch.full((2, 1, 8, 8), float(world.rank)))
    try:
        check_replicas(model, world, "a model")
    except RuntimeError as error:
        return "updates a buffer from its own rows" in str(error)
    return False


def agrees_on_nan(world: World) -> tuple[bool, bool]:
    nan = torch.tensor([float("nan"), 1.0])
    return world.are_replicas_equal([nan]), world.are_replicas_equal(
        [nan, torch.tensor([float("nan") if world.rank else 0.0])]
    )
