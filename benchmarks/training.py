"""Compare the training of shadow models with an earlier version, in CPU seconds, and its accuracy and log-odds.

Run ``python benchmarks/training.py EARLIER`` with a clone of the earlier version, and CIFAR10_PARQUET set for CIFAR-10.
Every arm is a process with one thread that has its own version, and trains by this version's recipe. The arms take
turns. CPU seconds of the process are the measure, because they depend less on other load than seconds do.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
ARMS = {"before": {}, "after": {}, "bf16": {"precision": "bf16"}, "contiguous": {"memory_format": "contiguous"}}
"""Arms: the earlier version, this version, and this version with other options of training."""
NUM_PAIRS = 20
FULL_MODELS = {"digits": 3, "cifar10-small": 0}
"""Shadow models that each arm trains to the end."""
TIMED = {"digits": (675, 4), "cifar10-small": (256, 1)}
"""Training examples and epochs of a timed run."""


def settings_of(recipe: str) -> dict[str, Any]:
    """Return what a recipe trains in this version, because a recipe may change from version to version."""
    from ungan_dist.config.recipes import RECIPES

    config = RECIPES[recipe]()
    train, split = dataclasses.asdict(config.train), dataclasses.asdict(config.split)
    kept = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "augment")
    return {
        "train": {name: train[name] for name in kept},
        "split": {name: split[name] for name in ("train", "shadow_pool", "unseen", "forget_fraction", "seed")},
    }


def work(recipe: str, changes: dict[str, Any], settings: dict[str, Any]) -> None:
    """Answer each line of standard input: train a shadow model, and print CPU seconds, accuracy and log-odds."""
    import torch

    from ungan_dist.config.recipes import RECIPES
    from ungan_dist.config.training import AugmentConfig
    from ungan_dist.data.examples import Examples, make_normalisation_table
    from ungan_dist.data.membership import draw_membership
    from ungan_dist.data.sources.source import load_source
    from ungan_dist.data.split import make_split
    from ungan_dist.training.evaluate import accuracy, query
    from ungan_dist.training.models import build
    from ungan_dist.training.train import train

    torch.set_num_threads(1)
    config = RECIPES[recipe]()
    source = load_source(config.source)
    split = make_split(dataclasses.replace(config.split, **settings["split"]), len(source.images), source.test)
    options: dict[str, Any] = {
        "images": torch.from_numpy(source.images),
        "labels": torch.from_numpy(source.labels.astype(np.int64)),
        "table": make_normalisation_table(source.mean, source.std),
        "num_classes": source.num_classes,
    }
    augment = AugmentConfig(**settings["train"].pop("augment"))
    training = dataclasses.replace(config.train, **settings["train"], augment=augment, **changes)

    def new_model(seed: int) -> torch.nn.Module:
        model = build(
            config.model, channels=source.images.shape[-1], num_classes=source.num_classes, seed=seed,
            device=torch.device("cpu"),
        )  # fmt: skip
        if hasattr(training, "memory_format"):
            from ungan_dist.training.models import use_memory_format

            use_memory_format(model, config.model, training.memory_format)
        return model

    precision = contextlib.nullcontext
    if hasattr(training, "memory_format"):
        from ungan_dist.training.models import is_channels_last
        from ungan_dist.training.precision import use_precision

        options["channels_last"] = is_channels_last(new_model(0), config.model, training.memory_format)
        precision = lambda: use_precision(training.precision)  # noqa: E731
    data = Examples(**options)
    pool, test = torch.from_numpy(split.pool), torch.from_numpy(split.test)
    membership = draw_membership(16, len(pool), 0)
    for line in sys.stdin:
        shadow, size, epochs, num_queried = json.loads(line)
        members = pool[torch.from_numpy(membership[shadow])]
        model = new_model(shadow)
        start = time.process_time()
        with precision():
            train(
                model,
                data,
                members[:size],
                dataclasses.replace(training, epochs=epochs or training.epochs),
                seed=shadow,
            )
        seconds = time.process_time() - start
        answer: dict[str, Any] = {"cpu_s": seconds}
        if not epochs:
            log_odds = query(model, data, pool, ("plain",))[:, 0]
            answer["accuracy"] = accuracy(model, data, test)
            answer["members"] = float(log_odds[membership[shadow]].mean())
            answer["non_members"] = float(log_odds[~membership[shadow]].mean())
        if num_queried:
            others = pool[torch.from_numpy(~membership[shadow])]
            answer["train_accuracy"] = accuracy(model, data, members[:size])
            answer["test_accuracy"] = accuracy(model, data, test[:num_queried])
            for name, rows in (("members", members), ("non_members", others)):
                answer[name] = query(model, data, rows[:num_queried], ("plain",))[:, 0].tolist()
        print(json.dumps(answer), flush=True)


class Arm:
    """A process of one version."""

    def __init__(self, code: Path, recipe: str, changes: dict[str, Any]) -> None:
        settings = json.dumps(settings_of(recipe))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--worker", recipe, json.dumps(changes), settings],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=code,
            env={**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def train(self, shadow: int, size: int, epochs: int, *, num_queried: int = 0) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([shadow, size, epochs, num_queried]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"an arm has ended with exit code {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate()


def rows_of(recipe: str, earlier: Path) -> Iterator[dict[str, object]]:
    """Measure one recipe."""
    from harness import as_row, summarise

    size, epochs = TIMED[recipe]
    arms = {name: Arm(earlier if name == "before" else ROOT, recipe, changes) for name, changes in ARMS.items()}
    for arm in arms.values():
        arm.train(0, size, 1)
    turns = [{name: arm.train(0, size, epochs)["cpu_s"] for name, arm in arms.items()} for _ in range(NUM_PAIRS)]
    for name, arm in arms.items():
        trained = [arm.train(shadow, 10**9, 0) for shadow in range(FULL_MODELS[recipe] if name != "contiguous" else 0)]
        pairs = np.array([(turn["before"], turn[name]) for turn in turns]) * 1e3
        ratio = summarise("before", pairs)
        keys = ("accuracy", "members", "non_members") if trained else ()
        means = {key: float(np.mean([one[key] for one in trained])) for key in keys}
        speed = size * epochs / (ratio.ours_ms / 1e3)
        yield as_row(f"{recipe}, {name}", ratio, images_per_cpu_s=speed, **means, num_models=len(trained))
    for arm in arms.values():
        arm.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", nargs="?", type=Path, help="a clone of the earlier version")
    parser.add_argument("--worker", nargs=3, metavar=("RECIPE", "CHANGES", "SETTINGS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.worker[0], *map(json.loads, asked.worker[1:]))
        return
    if asked.earlier is None:
        parser.error("name a clone of the earlier version")
    from harness import write

    earlier = asked.earlier.resolve()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=earlier, capture_output=True, text=True, check=True)
    load = os.getloadavg()[0]
    recipes = [name for name in TIMED if name == "digits" or "CIFAR10_PARQUET" in os.environ]
    rows: list[dict[str, object]] = []
    for recipe in recipes:  # what was measured is kept if the next recipe is interrupted
        rows += rows_of(recipe, earlier)
        loads = [load, os.getloadavg()[0]]
        print(write("training", rows, earlier=commit.stdout.strip(), load=loads), flush=True)


if __name__ == "__main__":
    main()
