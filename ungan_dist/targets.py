"""Targets: the original of one audit seed, and what each method makes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from ungan_dist import store
from ungan_dist.config import Method, ModelConfig, QueryView, TrainConfig
from ungan_dist.data import Examples, derive_seed
from ungan_dist.evaluate import accuracy, query
from ungan_dist.methods import METHODS, Request, Unlearned
from ungan_dist.models import build, frozen_copy, trainable_copy
from ungan_dist.resident import Prepared, open_examples
from ungan_dist.split import Draw, Split
from ungan_dist.train import threads, train
from ungan_dist.world import World


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetUnit:
    """One method under one audit seed; the original is trained by its own unit, which comes first."""

    id: str
    """Hash of everything that determines the result."""
    original_id: str
    """Id of the same seed's original."""
    run: str
    """The run folder, absolute."""
    method: Method
    method_config: Any
    seed: int
    prepared: Prepared
    split: Split
    draw: Draw
    model: ModelConfig
    train: TrainConfig
    queries: tuple[QueryView, ...]
    device: str
    fused: tuple[str, ...] = ()
    """Operations that run fused, as the plan resolved them."""

    @property
    def title(self) -> str:
        """In words, for progress and for lists of what is missing."""
        return f"{self.method}, seed {self.seed}"

    @property
    def num_models(self) -> int:
        """Models that this unit trains or unlearns."""
        return 1

    @property
    def marker(self) -> str:
        """Relative to the run folder."""
        return target_marker(self.seed, self.method)

    @property
    def weights_file(self) -> str:
        return f"models/{self.seed}/{self.method}.safetensors"

    @property
    def log_odds_file(self) -> str:
        return f"log_odds/{self.seed}/{self.method}.npy"

    @property
    def unseen_file(self) -> str:
        return f"log_odds/{self.seed}/{self.method}-unseen.npy"


def target_marker(seed: int, method: str) -> str:
    """Name of a target's marker in the run folder."""
    return f"results/{seed}/{method}.json"


def weights_bytes(model: nn.Module) -> bytes:
    """A model's state as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Loads safetensors into a model and returns it in eval mode.

    Raises:
        ValueError: the weights are of another architecture, or the file is damaged.
    """
    try:
        state: dict[str, Tensor] = safetensors.torch.load(path.read_bytes())
        model.load_state_dict(state)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} does not hold weights of this {type(model).__name__}: {error}") from error
    return model.eval()


def run_target(unit: TargetUnit) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Trains or unlearns one model and asks it all that the audit needs.

    Returns:
        The files to commit, by their names in the run folder, and the facts for their marker.
    """
    data = open_examples(unit.prepared, unit.device, unit.fused)
    with threads(unit.train.num_threads):
        original, curves = _original(unit, data)
        request = _request(unit, data, original)
        unlearned, seconds = timed(request, unit.method_config)
        curves |= unlearned.curves
        sets = {
            "retain": request.retain,
            "forget": request.forget,
            "unseen": request.unseen,
            "test": torch.from_numpy(unit.split.test).to(data.device),
        }
        pool = torch.from_numpy(unit.split.pool).to(data.device)
        files = {
            unit.weights_file: weights_bytes(unlearned.model),
            unit.log_odds_file: store.array_bytes(query(unlearned.model, data, pool, unit.queries)),
            unit.unseen_file: store.array_bytes(query(unlearned.model, data, request.unseen, unit.queries)),
        }
        facts = {
            "accuracy": {name: accuracy(unlearned.model, data, indices) for name, indices in sets.items()},
            "curves": curves,
            "unlearning_seconds": seconds,
        }
    return files, facts


def timed(request: Request, config: Any) -> tuple[Unlearned, float]:
    """Runs a method; T_U is its own time alone, in seconds, the device synchronised at both ends."""
    request.world.synchronize()
    start = time.perf_counter()
    unlearned = METHODS[type(config)](request, config)
    request.world.synchronize()
    return unlearned, time.perf_counter() - start


def _fresh(unit: TargetUnit, data: Examples, purpose: str) -> nn.Module:
    return build(
        unit.model,
        channels=data.images.shape[-1],
        num_classes=data.num_classes,
        seed=derive_seed(purpose, unit.seed),
        device=data.device,
    )


def _original(unit: TargetUnit, data: Examples) -> tuple[nn.Module, dict[str, list[float]]]:
    """Trains the original in its own unit, reads it back in every other."""
    model = _fresh(unit, data, "original")
    if unit.method != "original":
        path = Path(unit.run) / f"models/{unit.seed}/original.safetensors"
        if store.committed(Path(unit.run), target_marker(unit.seed, "original"), id=unit.original_id) is None:
            raise store.CorruptResult(f"{path} is absent or altered: run again to train the original anew")
        return frozen_copy(load_weights(model, path)), {}
    members = torch.from_numpy(unit.split.pool[unit.draw.train]).to(data.device)
    model = trainable_copy(model)
    losses = train(model, data, members, unit.train, seed=derive_seed("original", unit.seed))
    return frozen_copy(model), {"training cross-entropy": losses}


def _request(unit: TargetUnit, data: Examples, original: nn.Module) -> Request:
    def indices(positions: np.ndarray) -> Tensor:
        return torch.from_numpy(unit.split.pool[positions]).to(data.device)

    return Request(
        original=original,
        fresh=_fresh(unit, data, "retrain"),
        data=data,
        retain=indices(unit.draw.retain),
        forget=indices(unit.draw.forget),
        unseen=torch.from_numpy(unit.split.unseen).to(data.device),
        train=unit.train,
        seed=unit.seed,
        world=World(device=data.device),
    )
