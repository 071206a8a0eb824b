"""Compare accuracy and log-odds of shadow models of ``cifar10-small`` with an earlier version and in bfloat16.

Run ``python benchmarks/training_accuracy.py EARLIER`` with a clone of the earlier version and CIFAR10_PARQUET. The same
models, with the same initial weights, examples and crops, are trained in each arm. The differences of their log-odds
from ``fp32, now`` are compared: an arm whose differences are as large as those of ``fp32, before`` adds no more than
another order of additions does.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from harness import write
from training import ROOT, Arm

RECIPE = "cifar10-small"
ARMS: dict[str, dict[str, Any]] = {"fp32, now": {}, "fp32, before": {}, "bf16": {"precision": "bf16"}}
BASE = "fp32, now"
NUM_MODELS, NUM_EXAMPLES, EPOCHS = 2, 1000, 40
KINDS = ("members", "non_members")


def main() -> None:
    """Train the models of every arm, one arm after another, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("earlier", type=Path, metavar="EARLIER", help="a clone of the earlier version")
    earlier = parser.parse_args().earlier.resolve()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=earlier, capture_output=True, text=True, check=True)
    trained: dict[str, list[dict[str, Any]]] = {}
    for name, changes in ARMS.items():
        arm = Arm(earlier if name == "fp32, before" else ROOT, RECIPE, changes)
        trained[name] = [
            arm.train(shadow, NUM_EXAMPLES, EPOCHS, num_queried=NUM_EXAMPLES) for shadow in range(NUM_MODELS)
        ]
        arm.close()
    rows = [summarise(name, trained[name], trained[BASE]) for name in ARMS]
    facts = {"models": NUM_MODELS, "examples": NUM_EXAMPLES, "epochs": EPOCHS, "recipe": RECIPE}
    print(write("training_accuracy", rows, earlier=commit.stdout.strip(), **facts))


def summarise(name: str, models: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, object]:
    """Return the mean accuracies of an arm, and mean and spread of its log-odds less those of the base."""
    row: dict[str, object] = {"subject": name}
    row |= {key: float(np.mean([one[key] for one in models])) for key in ("cpu_s", "train_accuracy", "test_accuracy")}
    for kind in KINDS:
        ours, theirs = (np.array([one[kind] for one in some]) for some in (models, base))
        row[kind] = float(ours.mean())
        row[f"{kind}_difference"] = float((ours - theirs).mean())
        row[f"{kind}_spread"] = float((ours - theirs).std())
    return row


if __name__ == "__main__":
    main()
