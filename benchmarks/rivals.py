"""Time the training of shadow models, and the scheduling of units that sleep, against rivals.

All train the same model on the same halves of the digits, for as many epochs with the same batches, crops and learning
rates. Each is used as its documentation recommends: scripts have all threads; processes of joblib and Ray have one
thread each, as ours have. A run of an arm starts no process that it could keep from the run before: ours, those of
joblib and of Ray's tasks are warm. Ray Tune and Ray Data start actors for each list of jobs, so their start counts.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from fleet import local_cluster
from harness import as_row, summarise, value_row
from peers import plain, public_lira, ray_libraries
from sleeping_fleets import HELPERS, run
from sleeping_units import always_done, sleep

from ungan_dist.cluster.fleet import Fleet as RayFleet
from ungan_dist.config.execution import FleetConfig
from ungan_dist.config.recipes import digits
from ungan_dist.data.prepared import prepare
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.scoring import read_shadows
from ungan_dist.runs.units import Done, ShadowUnit, root_of
from ungan_dist.training.models import build

ACCURACY_WITHIN = 0.003
"""Largest difference of mean test accuracies, beyond three standard errors, at which speeds are compared."""

CORES = os.cpu_count() or 1
CPUS = 2
"""Logical CPUs of a training on a cluster that has twice as many as there are cores."""
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
            border=-torch.tensor(source.mean)[:, None, None] / torch.tensor(source.std)[:, None, None],
        )  # fmt: skip
        pixels = torch.from_numpy(source.images).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in (source.mean, source.std))
        pool = torch.from_numpy(self.plan.split.pool)
        self.images, self.labels = ((pixels - mean) / std)[pool], torch.from_numpy(source.labels.astype(np.int64))[pool]
        self._pictures = source.images[self.plan.split.pool].squeeze(-1)
        self.model, self.num_classes = config.model, source.num_classes

    def arguments(self, shadow: int) -> tuple[Any, ...]:
        """Return what ``plain.train_shadow`` takes."""
        return self.make_model, self.images, self.labels, self.plan.membership[shadow], self.training, shadow

    def public_arguments(self, shadow: int) -> tuple[Any, ...]:
        """Return what ``public_lira.train_shadow`` takes."""
        source, members = self.plan.source, self.plan.membership[shadow]
        labels = self.labels.numpy()
        return self.make_model, self._pictures, labels, source.mean, source.std, members, self.training, shadow

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
    """Train and sleep by all arms, which take turns."""
    cluster = local_cluster(CPUS * CORES, os.pathsep.join([str(Path(__file__).parent), HELPERS]))
    with tempfile.TemporaryDirectory() as folder, cluster:
        yield from _train(Path(folder).resolve(), quick=quick)
        yield from _sleep(quick=quick)


def _train(folder: Path, *, quick: bool) -> Iterator[dict[str, object]]:
    """Train by all arms; each turn has shadow models of its own, so that the accuracies are of independent models."""
    num_models, epochs, num_turns = (2, 5, 1) if quick else (8, 10, 8)
    with LocalPool() as pool:
        fleet = Fleet(folder, num_models=num_models * (num_turns + 1), epochs=epochs)
        alone = plain.train_shadow_alone

        def list_jobs(shadows: range) -> list[tuple[Any, ...]]:
            return [fleet.arguments(shadow) for shadow in shadows]

        arms: dict[str, Callable[[range], Any]] = {
            "ours": lambda shadows: _ours(fleet, pool, shadows),
            "plain PyTorch": lambda shadows: [plain.train_shadow(*job) for job in list_jobs(shadows)],
            "a public LiRA code": lambda shadows: [
                public_lira.train_shadow(*fleet.public_arguments(shadow)) for shadow in shadows
            ],
            "joblib": lambda shadows: _joblib(list_jobs(shadows)),
            "Ray tasks": lambda shadows: ray_libraries.run_tasks(alone, list_jobs(shadows), CPUS),
            "Ray Tune": lambda shadows: ray_libraries.run_tune(alone, list_jobs(shadows), CPUS),
            "Ray Data": lambda shadows: ray_libraries.run_data(alone, list_jobs(shadows), CPUS, CORES),
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
    if np.mean(ours) < LEARNED:
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
    yield value_row("accuracy on examples outside of the training half", ours=round(float(np.mean(ours)), 4), **means)


def _sleep(*, quick: bool) -> Iterator[dict[str, object]]:
    """Let the scheduling take turns: units that sleep, with half of a logical CPU each."""
    num_units, unit_s, num_turns = (8, 0.1, 1) if quick else (24, 0.25, 8)
    num_workers = 2 * CORES
    jobs = [(unit_s,)] * num_units
    config = FleetConfig(num_workers=num_workers, cpus_per_worker=0.5, gpus_per_worker=0.0)
    with RayFleet(config, execute=sleep, is_done=always_done) as ours:  # on one half of the cluster
        run(ours, num_workers, 5.0)  # every worker starts
        arms: dict[str, Callable[[], object]] = {
            "ours": lambda: run(ours, num_units, unit_s),
            "Ray tasks": lambda: ray_libraries.run_tasks(ray_libraries.sleep, jobs, 0.5),
            "Ray Tune": lambda: ray_libraries.run_tune(ray_libraries.sleep, jobs, 0.5),
            "Ray Data": lambda: ray_libraries.run_data(ray_libraries.sleep, jobs, 0.5, num_workers),
        }
        turns = [{name: _time(arm) for name, arm in arms.items()} for _ in range(num_turns + 1)][1:]
    for name in list(arms)[1:]:
        pairs = 1e3 * np.array([(turn[name], turn["ours"]) for turn in turns]) / num_units
        yield as_row(f"a unit that sleeps {unit_s:g} s, {num_units} on {num_workers} workers", summarise(name, pairs))


def _time(arm: Callable[[], object]) -> float:
    begun = time.perf_counter()
    arm()
    return time.perf_counter() - begun


def _ours(fleet: Fleet, pool: LocalPool, shadows: range) -> np.ndarray:
    units = fleet.units_of(shadows)
    outcomes = [outcome for outcome in pool.run_units(units) if isinstance(outcome, Done)]
    assert len(outcomes) == len(units)
    return read_shadows(fleet.plan, units)[0][:, :, 0]


def _joblib(jobs: Sequence[tuple[Any, ...]]) -> list[np.ndarray]:
    train = joblib.delayed(plain.train_shadow_alone)
    return joblib.Parallel(n_jobs=CORES)(train(*job) for job in jobs)  # pyright: ignore[reportReturnType]
