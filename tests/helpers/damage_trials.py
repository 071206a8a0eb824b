"""Damage a finished run in 500 ways with a fixed seed, and describe what ``verify`` and the next ``run`` did.

``python tests/helpers/damage_trials.py FOLDER`` tries all of them, goes on in a folder where it was interrupted, and
writes ``tests/system/fixtures/damages.json`` if every damage was found.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from damages import damage, files_of
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.config.methods import FineTuningConfig
from ungan_dist.runs.pipeline import audit

SEED = 17
NUM_DAMAGES = 500
RECORD = Path(__file__).parents[1] / "system/fixtures/damages.json"
METHODS = ("original", "fine_tuning")
OPTIONS = [*SMALL_OPTIONS, "--methods", ",".join(METHODS), "--num-seeds", "2", "--train.epochs", "1"]
OPTIONAL = ("run/finished.json", "run/status.json")
"""Records that only save work; without them a run is as complete."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of one damage."""

    kind: str
    file: str
    verify: str
    run: str


class PoolHere:
    """In place of the pool of processes, whose start takes seconds."""

    def __init__(self, num_processes: int | None) -> None:
        self.run_units = InProcess()

    def __enter__(self) -> PoolHere:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def patch_slow_parts(patch: pytest.MonkeyPatch) -> None:
    """Draw no figures, and execute units in this process."""
    patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
    patch.setattr("ungan_dist.runs.pipeline.LocalPool", PoolHere)


def make_two_runs(output: Path) -> None:
    """Make two finished runs of two seeds on the same data and shadow models."""
    first = run_command("run", "digits", *OPTIONS, "--output", output)
    assert first.returncode == 0, first.stderr
    second = small_config(output, methods=METHODS, num_seeds=2, fine_tuning=FineTuningConfig(epochs=2))
    second = replace(second, train=replace(second.train, epochs=1))
    audit(replace(second, execution=replace(second.execution, run_name="second")), run_units=InProcess())


def try_damage(base: Path, output: Path, number: int) -> Trial:
    """Damage a copy, verify it, run it again, and describe the outcome; raise AssertionError if it was not found."""
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(base, output, copy_function=shutil.copy2)
    kind, name = damage(random.Random(f"{SEED} {number}"), output)
    case = f"damage {number}: {kind}, {name}"
    found = run_command("verify", output / "run")
    again = run_command("run", "digits", *OPTIONS, "--output", output)
    after = run_command("verify", output / "run")
    for result in (found, again, after):
        assert "Traceback" not in result.stderr + result.stdout, f"{case}\n{result.stderr}"
    is_optional = name in OPTIONAL and found.stdout == "COMPLETE\n"
    if is_optional:
        assert kind in ("deleted", "link to nowhere"), case
    else:
        assert found.returncode in (1, 2, 3), f"{case}\n{found.stdout}"
        assert found.stderr, case
    if again.returncode == 0 and after.stdout == "COMPLETE\n":
        outcome = "healed"
        assert (output / "run/table.json").read_bytes() == (base / "run/table.json").read_bytes(), case
    elif again.returncode == 0:
        # only a change of content that no name, size or time shows: the report of before is printed, nothing is read
        assert kind == "bit flipped, time kept", f"{case}\n{after.stderr}"
        outcome = "not read"
    else:
        outcome = "refused"
        assert again.returncode == 2, f"{case}\n{again.stderr}"
        named = (Path(name).name, "config.json") if kind == "swapped beside" else (Path(name).name,)
        assert any(one in again.stderr for one in named), f"{case}\n{again.stderr}"
    by_verify = "no loss" if is_optional else {1: "CORRUPT", 2: "refused", 3: "PARTIAL"}[found.returncode]
    return Trial(kind=kind, file=name, verify=by_verify, run=outcome)


def summarise(trials: list[Trial], files: list[str]) -> dict[str, object]:
    """Count the trials by kind and outcome."""
    counts = Counter((trial.kind, trial.verify, trial.run) for trial in trials)
    outcomes = [
        {"kind": kind, "verify": verify, "run": run, "count": count}
        for (kind, verify, run), count in sorted(counts.items())
    ]
    tried = {trial.file for trial in trials}
    return {
        "seed": SEED,
        "tried": len(trials),
        "files": len(files),
        "files_damaged": len(tried & set(files)),
        "outcomes": outcomes,
    }


def main() -> None:
    """Try every damage that has no outcome in the folder yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    base, outcomes = folder / "base", folder / "outcomes"
    outcomes.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch_slow_parts(patch)
        if not base.exists():
            shutil.rmtree(folder / "unfinished", ignore_errors=True)
            make_two_runs(folder / "unfinished")
            (folder / "unfinished").rename(base)
        for number in range(NUM_DAMAGES):
            place = outcomes / f"{number}.json"
            if place.exists():
                continue
            try:
                trial = try_damage(base, folder / "out", number)
            except AssertionError as error:
                failures.append(str(error))
                print(f"NOT FOUND OR NOT NAMED: {error}", flush=True)
            else:
                place.write_text(json.dumps(asdict(trial)))
    assert not failures, f"{len(failures)} of {NUM_DAMAGES}"
    trials = [Trial(**json.loads((outcomes / f"{number}.json").read_text())) for number in range(NUM_DAMAGES)]
    RECORD.write_text(json.dumps(summarise(trials, files_of(base)), indent=1) + "\n")


if __name__ == "__main__":
    main()
