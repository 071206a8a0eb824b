"""Train shadow models to the end: eight with the best arm, two with the eager one, their accuracy and log-odds."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpu_parts.arms import Arm, Task, make_trainer
from gpu_parts.pictures import load_pictures, open_source
from gpu_parts.session import Session, read_rows
from gpu_parts.timing import synchronise
from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig
from ungan_dist.data.membership import draw_membership
from ungan_dist.training.evaluate import accuracy, query

NUM_MODELS = {"eager": 2, "the best arm": 8}
MAX_ERROR = 0.3
"""An arm whose weights were further off in the part ``stem`` is not the best, however fast."""
FALLBACK = Arm(engine="graph")
ENGINES = ("serial", "graph", "branches", "stacked")
"""Engines that a run can take."""


def compare_with_eager(session: Session) -> None:
    """Append seconds a model, accuracy and mean log-odds of both arms."""
    source = load_pictures()
    data, pool_size = open_source(source, session.device), session.pick(5000, 64)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(source.images))
    pool, test = (torch.from_numpy(part).to(session.device) for part in np.split(order[: pool_size + 512], [pool_size]))
    is_cifar = source.images.shape[-1] == 3
    train = TrainConfig(
        epochs=session.pick(40, 1),
        batch_size=session.pick(256, 16),
        augment=AugmentConfig(padding=4 if is_cifar else 1, flip=is_cifar),
    )
    model = session.pick(ModelConfig(name="resnet18"), ModelConfig(width=4))
    membership = torch.from_numpy(draw_membership(max(NUM_MODELS.values()), pool_size, 0)).to(session.device)
    task = Task(model=model, data=data, train=train)
    # libraries prepare themselves for the first model of a process, whatever its arm
    _train(Arm(), dataclasses.replace(task, train=dataclasses.replace(train, epochs=1)), pool, test, membership[:2])
    for name, arm in {"eager": Arm(), "the best arm": find_best_arm(session)}.items():
        with session.attempt(name):
            facts = _train(arm, task, pool, test, membership[: NUM_MODELS[name]])
            session.append(
                f"{name}: {arm.title}", **facts, data=source.title, epochs=train.epochs, arm=dataclasses.asdict(arm)
            )


def find_best_arm(session: Session) -> Arm:
    """Return the fastest arm of the part ``stem`` that a run could take."""
    rows = [
        row
        for row in read_rows(session.rows)
        if row["part"] == "stem" and row.get("error", 1.0) <= MAX_ERROR and row.get("arm", {}).get("engine") in ENGINES
    ]
    fastest: dict[str, Any] | None = max(rows, key=lambda row: row["ratio"], default=None)
    return FALLBACK if fastest is None else Arm(**fastest["arm"])


def _train(arm: Arm, task: Task, pool: Tensor, test: Tensor, membership: Tensor) -> dict[str, Any]:
    models = task.new_models(arm, len(membership))
    begun = time.perf_counter()
    sets = [pool[members] for members in membership]
    make_trainer(arm, task, len(sets[0]))(models, sets)
    synchronise()
    seconds = time.perf_counter() - begun
    log_odds = np.stack([_query(model, task, pool) for model in models])
    inside = membership.cpu().numpy()
    return {
        "seconds_per_model": seconds / len(models),
        "models": len(models),
        "accuracy": float(np.mean([accuracy(model, task.data, test) for model in models])),
        "log_odds_of_members": float(log_odds[inside].mean()),
        "log_odds_of_non_members": float(log_odds[~inside].mean()),
    }


def _query(model: nn.Module, task: Task, pool: Tensor) -> np.ndarray:
    return query(model, task.data, pool, ("plain",))[:, 0]
