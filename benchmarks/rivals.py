"""Time the training of shadow models against rivals: a plain script, joblib, and plain Ray tasks.

All train the same model on the same halves of the digits, for as many epochs with the same batches and learning rate.
Each is used as its documentation recommends: the plain script has all threads; joblib's and Ray's processes have one
thread each, as ours have. A run of an arm starts no process that it could keep from the run before.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import ray
import torch
from fleet import local_cluster
from harness import as_row, summarise, value_row
from peers import plain

from ungan_dist.config.recipes import digits
from ungan_dist.data.prepared import prepare
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.scoring import read_shadows
from ungan_dist.runs.units import Done, ShadowUnit, root_of
from ungan_dist.training.models import build

ACCURACY_WITHIN = 0.003
"""Largest difference of mean test accuracies, beyond three standard errors, at which speeds are compared."""

LEARNED = 0.5
"""Least accuracy of models whose trainings are compared."""


class Fleet:
    """The shadow models of a small run, trained by every arm."""

    def __init__(self, output: Path, *, num_models: int, epochs: int) -> None:
        config = digits(output=str(output), shadows={"num_models": num_models, "queries": ("plain",)})
        config = replace(config, train=replace(config.train, epochs=epochs))
        self.plan: Plan = make_plan(config, device="cpu")
        prepare(self.plan.source, output)
        train, source = config.train, self.plan.source
        self.training = plain.Training(
            epochs=epochs, batch_size=train.batch_size, learning_rate=train.learning_rate, momentum=train.momentum,
            weight_decay=train.weight_decay, padding=train.augment.padding,
        )  # fmt: skip
        pixels = torch.from_numpy(source.images).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (source.mean, source.std))
        pool = torch.from_numpy(self.plan.split.pool)
        self.images, self.labels = ((pixels - mean) / std)[pool], torch.from_numpy(source.labels.astype(np.int64))[pool]
        self.model, self.num_classes = config.model, source.num_classes

    def arguments(self, shadow: int) -> tuple[Any, ...]:
        """Return what ``plain.train_shadow`` takes."""
        return self.make_model, self.images, self.labels, self.plan.membership[shadow], self.training, shadow

    def make_model(self) -> torch.nn.Module:
        device, seed = torch.device("cpu"), int(torch.randint(0, 2**31, ()))
        return build(self.model, channels=self.images.shape[1], num_classes=self.num_classes, seed=seed, device=device)

    def units_of(self, shadows: range) -> list[ShadowUnit]:
        """Return our units of some shadow models, with their results removed."""
        units = [unit for unit in self.plan.shadows if unit.shadows[0] in shadows]
        for unit in units:
            for name in (unit.marker, *unit.files):
                (root_of(unit) / name).unlink(missing_ok=True)
        return units


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Let all arms take turns.

    Each turn trains shadow models of its own, so that the accuracies are those of independent models.
    """
    num_models, epochs, num_turns = (4, 1, 2) if quick else (4, 10, 7)
    cluster = local_cluster(os.cpu_count() or 1, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as folder, cluster, LocalPool() as pool:
        fleet = Fleet(Path(folder).resolve(), num_models=num_models * (num_turns + 1), epochs=epochs)
        arms: dict[str, Callable[[range], np.ndarray]] = {
            "ours": lambda shadows: _ours(fleet, pool, shadows),
            "plain PyTorch": lambda shadows: np.stack([plain.train_shadow(*fleet.arguments(k)) for k in shadows]),
            "joblib": lambda shadows: _joblib(fleet, shadows),
            "Ray tasks": lambda shadows: _ray_tasks(fleet, shadows),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        accuracies: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(num_turns + 1):
            shadows = range(turn * num_models, (turn + 1) * num_models)
            for name, arm in arms.items():
                begun = time.perf_counter()
                found = arm(shadows)
                if turn:  # the first starts processes
                    seconds[name].append(time.perf_counter() - begun)
                is_out = ~fleet.plan.membership[shadows]
                accuracies[name] += [float((row[out] > 0).mean()) for row, out in zip(found, is_out, strict=True)]
        ours, means = accuracies.pop("ours"), {}
        if not quick and np.mean(ours) < LEARNED:
            raise RuntimeError(f"the models have learned too little to be compared: accuracy {np.mean(ours):.2f}")
        for name, found in accuracies.items():
            spread = np.sqrt((np.var(found) + np.var(ours)) / len(ours))
            means[name] = round(float(np.mean(found)), 4)
            pairs = 1e3 * np.array([seconds[name], seconds["ours"]]).T / num_models
            yield as_row(
                f"a shadow model of digits, {epochs} epochs",
                summarise(name, pairs),
                error=abs(float(np.mean(found) - np.mean(ours))),
                tolerance=ACCURACY_WITHIN + 3 * float(spread),
            )
        yield value_row(
            "accuracy on examples outside of the training half", ours=round(float(np.mean(ours)), 4), **means
        )


def _ours(fleet: Fleet, pool: LocalPool, shadows: range) -> np.ndarray:
    units = fleet.units_of(shadows)
    outcomes = [outcome for outcome in pool.run_units(units) if isinstance(outcome, Done)]
    assert len(outcomes) == len(units)
    return read_shadows(fleet.plan, units)[0][:, :, 0]


def _one_thread(arguments: tuple[Any, ...]) -> np.ndarray:
    sys.path.append(str(Path(__file__).parent))
    torch.set_num_threads(1)
    return plain.train_shadow(*arguments)


def _joblib(fleet: Fleet, shadows: range) -> np.ndarray:
    jobs = (joblib.delayed(_one_thread)(fleet.arguments(k)) for k in shadows)
    return np.stack(joblib.Parallel(n_jobs=os.cpu_count())(jobs))


def _ray_tasks(fleet: Fleet, shadows: range) -> np.ndarray:
    task = ray.remote(num_cpus=1)(_one_thread)
    return np.stack(ray.get([task.remote(fleet.arguments(k)) for k in shadows]))
