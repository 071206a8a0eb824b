"""Try options of a method on the fleet of a finished run, one row per set of options and seed.

``python benchmarks/options.py RUN ungan_joint OUTPUT.jsonl 'wide={"beta": 1}' --seeds 0,1`` appends rows to the file,
and skips those that it has. Choose options on a pool of their own (``--split.seed``): figures of the best of many are
better than it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from ungan_dist.attack.lira import ShadowFits
from ungan_dist.attack.metrics import auc
from ungan_dist.config.audit import method_config
from ungan_dist.runs.evaluation import evaluate_target
from ungan_dist.runs.plan import reopen_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.scoring import fit, read_shadows
from ungan_dist.runs.targets import TargetUnit, train_target


def measure(unit: TargetUnit, fits: ShadowFits) -> dict[str, Any]:
    """Make one target: its accuracies, its AUC (b), and the CPU seconds of its unit."""
    start = time.process_time()
    target = train_target(unit)
    seconds = time.process_time() - start
    files, facts = evaluate_target(unit, target)
    scores = fits.score(np.load(io.BytesIO(files[unit.log_odds_file])))
    accuracy = {name: facts["accuracy"][name] for name in ("retain", "forget", "test")}
    value = auc(scores[unit.draw.forget], scores[unit.draw.non_members])
    return {**accuracy, "auc": float(value), "cpu_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run with the row retrain")
    parser.add_argument("method", help="the row whose options are tried, such as ungan_joint")
    parser.add_argument("output", type=Path, help="JSON lines, appended to")
    parser.add_argument("options", nargs="+", help='NAME={"field": value, …}')
    parser.add_argument("--seeds", default="0", help="audit seeds of the run, separated by commas")
    given = parser.parse_args()
    plan = reopen_plan(read_run(given.run))
    fits = fit(*read_shadows(plan, plan.shadows), plan.record.config.attack)
    units = {unit.seed: unit for unit in plan.targets if unit.method == "retrain"}
    base = method_config(plan.record.config, given.method)
    known = [json.loads(line) for line in given.output.read_text().splitlines()] if given.output.exists() else []
    done = {(row["name"], row["seed"]) for row in known}
    for text in given.options:
        name, _, changes = text.partition("=")
        config = dataclasses.replace(base, **json.loads(changes or "{}"))
        for seed in (int(word) for word in given.seeds.split(",")):
            if (name, seed) in done:
                continue
            unit = dataclasses.replace(units[seed], method=given.method, method_config=config)
            row = {"name": name, "seed": seed, "options": json.loads(changes or "{}"), **measure(unit, fits)}
            with given.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
