"""Targets: the original of each audit seed, and the model that each method makes from it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ungan_dist import store
from ungan_dist.config.attack import QueryView
from ungan_dist.config.identity import content_hash
from ungan_dist.config.training import ModelConfig, TrainConfig
from ungan_dist.config.user_code import add_import_path
from ungan_dist.data.examples import Examples
from ungan_dist.data.prepared import PreparedData, open_examples
from ungan_dist.data.seeds import derive_seed, seed_layers
from ungan_dist.data.split import SeedSplit, Split
from ungan_dist.methods import Request, Unlearned, guard_request, run_method
from ungan_dist.training.batch_norm import check_replicas, use_global_statistics
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.engines.passes import without_fused_crops
from ungan_dist.training.given_weights import GivenWeights, load_given_weights
from ungan_dist.training.models import build, frozen_copy, is_channels_last, use_memory_format
from ungan_dist.training.optimizers import import_compiler
from ungan_dist.training.precision import use_precision
from ungan_dist.training.train import train, use_threads
from ungan_dist.training.weights import load_weights
from ungan_dist.training.world import SINGLE_PROCESS, World


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetUnit:
    """One method under one audit seed; the original has its own unit, which is computed first."""

    id: str
    """Hash of everything that determines the result."""
    original_id: str
    """Id of the original of the same seed."""
    run: str
    """The run folder, absolute."""
    method: str
    method_config: Any
    seed: int
    unlearning: int = 0
    """Number of this unlearning among those of the seed's original."""
    prepared: PreparedData
    split: Split
    draw: SeedSplit
    model: ModelConfig
    train: TrainConfig
    queries: tuple[QueryView, ...]
    device: str
    fused: tuple[str, ...] = ()
    """Operations of this unit that run fused, as the plan resolved them."""
    judged_on: tuple[str, ...] = ()
    """Kinds of device that its fused operations were judged on. No part of the id."""
    engine: str = "serial"
    """``serial`` or ``graph``; several models at once make no difference to a target."""
    code: str | None = None
    """Folder that the user's model or method is imported from, if there is one. No part of the id."""
    given_original: GivenWeights | None = None
    """The user's weights for the original; by default it is trained."""
    with_entropies: bool = False
    """Also compute the entropies of the predictions, for a quick audit."""
    with_outputs: bool = False
    """Also keep the outputs on the forget set, for distances. No part of the id."""
    with_relearning: bool = False
    """Also fine-tune the model on a few forget examples, and keep the accuracies. No part of the id."""

    @property
    def title(self) -> str:
        """Name for progress and for lists of missing units."""
        return f"{self.method}, seed {self.seed}" + (f", unlearning {self.unlearning}" if self.unlearning else "")

    @property
    def name(self) -> str:
        """Name of its files in the folder of its seed."""
        return name_target(self.method, self.unlearning)

    @property
    def method_seed(self) -> int:
        """Seed of every random draw of the method."""
        return derive_seed("unlearning", self.seed, self.unlearning) if self.unlearning else self.seed

    @property
    def num_models(self) -> int:
        """Number of models that this unit trains or unlearns."""
        return 1

    @property
    def marker(self) -> str:
        """Name of the marker, relative to the run folder."""
        return target_marker(self.seed, self.method, self.unlearning)

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints."""
        return [f"checkpoints/{self.seed}/{self.name}"]

    @property
    def weights_file(self) -> str:
        return f"models/{self.seed}/{self.name}.safetensors"

    @property
    def log_odds_file(self) -> str:
        return f"log_odds/{self.seed}/{self.name}.npy"

    @property
    def unseen_file(self) -> str:
        return f"log_odds/{self.seed}/{self.name}-unseen.npy"

    @property
    def outputs_file(self) -> str:
        return f"log_odds/{self.seed}/{self.name}-outputs.npy"

    @property
    def relearning_file(self) -> str:
        return f"log_odds/{self.seed}/{self.name}-relearning.npy"

    @property
    def entropies_file(self) -> str:
        return f"log_odds/{self.seed}/{self.name}-entropies.npy"

    @property
    def files(self) -> list[str]:
        """Names of the files of a result, relative to the run folder."""
        files = [self.weights_file, self.log_odds_file, self.unseen_file]
        files += [self.entropies_file] if self.with_entropies else []
        files += [self.outputs_file] if self.with_outputs else []
        return [*files, self.relearning_file] if self.with_relearning else files


def target_id(
    run_hash: str,
    settings: dict[str, Any],
    method: str,
    seed: int,
    weights: str = "",
    source: str = "",
    unlearning: int = 0,
) -> str:
    """Hash everything that determines a target.

    Args:
        run_hash: The hash of its run.
        settings: The resolved settings that it uses, from ``operations.settings_of_target``.
        method: The method's name.
        seed: The audit seed.
        weights: SHA-256 of the user's weights of an unlearned model; empty for every other target.
        source: Hash of the source of a method of the user's own; empty for every other target.
        unlearning: The number of the unlearning. The first has the id of a run with one unlearning an original.
    """
    content = {"run": run_hash, "resolved": settings, "method": method, "seed": seed}
    more = {"weights": weights, "source": source, "unlearning": unlearning}
    return content_hash(content | {name: value for name, value in more.items() if value})


SETS = ("retain", "forget", "unseen", "test")
"""The sets that every target is evaluated on."""


def name_target(method: str, unlearning: int = 0) -> str:
    """Return the name of a target's files in the folder of its seed."""
    return f"{method}-unlearning-{unlearning}" if unlearning else method


def target_marker(seed: int, method: str, unlearning: int = 0) -> str:
    """Return the name of a target's marker in the run folder."""
    return f"results/{seed}/{name_target(method, unlearning)}.json"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A trained or unlearned model."""

    request: Request
    """The input of its method."""
    model: nn.Module
    curves: dict[str, list[float]]
    seconds: float
    """T_U."""


def train_target(
    unit: TargetUnit,
    world: World = SINGLE_PROCESS,
    checkpoint: Checkpoint | None = None,
    *,
    load_original: Callable[[nn.Module], nn.Module] | None = None,
) -> Target:
    """Train or unlearn one model, by all processes of a world.

    Args:
        unit: The unit to compute.
        world: The processes that share each batch; defaults to this process.
        checkpoint: Written after each epoch and continued from; defaults to none.
        load_original: Loads the weights to unlearn from into a model; defaults to those of the run's original.
    """
    add_import_path(unit.code)
    import_compiler(unit.code)
    data = open_examples(unit.prepared, unit.device if world.size == 1 else str(world.device), unit.fused)
    world = dataclasses.replace(world, device=data.device)
    steps = CapturedSteps(data.device) if unit.engine == "graph" and world.size == 1 else None
    data = data if steps is None else without_fused_crops(data)
    with (
        use_threads(unit.train.num_threads),
        use_precision(unit.train.precision),
        seed_layers(unit.method, unit.method_seed),
    ):
        model = _fresh(unit, data, "original", world)
        channels_last = is_channels_last(model, unit.model, unit.train.memory_format)
        data = dataclasses.replace(data, channels_last=channels_last)
        if load_original is None:
            original, curves = _original(unit, model, data, world, checkpoint, steps)
        else:
            original, curves = load_original(model).requires_grad_(False), {}
        request = _request(unit, data, original, world, checkpoint, steps)
        with guard_request(request, unit.method_config):
            unlearned, seconds = run_timed(request, unit.method_config)
        check_replicas(unlearned.model, world, unit.title)
    return Target(request=request, model=unlearned.model, curves=curves | unlearned.curves, seconds=seconds)


def run_timed(request: Request, config: Any) -> tuple[Unlearned, float]:
    """Run a method and measure T_U in seconds, with the device synchronised at both ends.

    T_U includes the time before a restart, and excludes the time to write checkpoints.
    """
    checkpoint = request.checkpoint
    excluded = 0.0 if checkpoint is None else checkpoint.excluded_seconds
    request.world.synchronize()
    start = time.perf_counter()
    unlearned = run_method(request, config)
    request.world.synchronize()
    excluded = excluded if checkpoint is None else checkpoint.excluded_seconds - excluded
    return unlearned, time.perf_counter() - start - excluded


def _fresh(unit: TargetUnit, data: Examples, purpose: str, world: World, *, seed: int | None = None) -> nn.Module:
    model = build(
        unit.model,
        channels=data.input_shape[0],
        num_classes=data.num_classes,
        seed=derive_seed(purpose, unit.seed if seed is None else seed),
        device=data.device,
        size=data.input_shape[1:],
    )
    use_memory_format(model, unit.model, unit.train.memory_format)
    return use_global_statistics(model, world) if world.size > 1 and unit.train.sync_batch_norm else model


def _rebuild(unit: TargetUnit, data: Examples, world: World) -> Callable[[], nn.Module] | None:
    """Return how a user's model is copied: built anew, since a deep copy may fail or share layers.

    The first model is built at once, so that T_U does not include it.
    """
    if unit.model.factory is None:
        return None
    build = functools.partial(_fresh, unit, data, "original", world)
    built = [build()]
    return lambda: built.pop() if built else build()


def _original(
    unit: TargetUnit,
    model: nn.Module,
    data: Examples,
    world: World,
    checkpoint: Checkpoint | None,
    steps: CapturedSteps | None,
) -> tuple[nn.Module, dict[str, list[float]]]:
    """Train the original in its own unit, and load it in every other."""
    if unit.method != "original":
        path = Path(unit.run) / f"models/{unit.seed}/original.safetensors"
        if store.committed(Path(unit.run), target_marker(unit.seed, "original"), id=unit.original_id) is None:
            raise store.CorruptResult(f"{path} is absent or altered: run again to train the original anew")
        return load_weights(model, path).requires_grad_(False), {}
    if unit.given_original is not None:
        return load_given_weights(model, unit.given_original).requires_grad_(False), {}
    members = torch.from_numpy(unit.split.pool[unit.draw.train]).to(data.device)
    seed = derive_seed("original", unit.seed)
    losses = train(model, data, members, unit.train, seed=seed, world=world, checkpoint=checkpoint, steps=steps)
    return frozen_copy(model, _rebuild(unit, data, world)), {"training cross-entropy": losses}


def _request(
    unit: TargetUnit,
    data: Examples,
    original: nn.Module,
    world: World,
    checkpoint: Checkpoint | None,
    steps: CapturedSteps | None,
) -> Request:
    def indices(positions: np.ndarray) -> Tensor:
        return torch.from_numpy(unit.split.pool[positions]).to(data.device)

    return Request(
        original=original,
        fresh=_fresh(unit, data, "retrain", world, seed=unit.method_seed),
        data=data,
        retain=indices(unit.draw.retain),
        forget=indices(unit.draw.forget),
        unseen=torch.tensor(unit.split.unseen, device=data.device),
        train=unit.train,
        seed=unit.method_seed,
        world=world,
        rebuild=_rebuild(unit, data, world),
        checkpoint=checkpoint,
        steps=steps,
    )
