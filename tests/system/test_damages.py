"""Random damages of a finished run: each is found by ``verify`` and by the next ``run``, healed or refused."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from damages import damage
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.config.methods import FineTuningConfig
from ungan_dist.runs.pipeline import audit

SEED = 17
NUM_DAMAGES = int(os.environ.get("UNGAN_DAMAGES", "60"))
"""CI tries 60; ``UNGAN_DAMAGES=500`` with ``UNGAN_DAMAGES_RESULTS`` gave the counts in ``fixtures/damages.json``."""
NUM_PARTS = 6
METHODS = ("original", "fine_tuning")
OPTIONS = [*SMALL_OPTIONS, "--methods", ",".join(METHODS), "--num-seeds", "2", "--train.epochs", "1"]
OPTIONAL = ("run/finished.json", "run/status.json")
"""Records that only save work; without them a run is as complete."""


class PoolHere:
    """In place of the pool of processes, whose start takes seconds."""

    def __init__(self, num_processes: int | None) -> None:
        self.run_units = InProcess()

    def __enter__(self) -> PoolHere:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two finished runs of two seeds on the same data and shadow models."""
    output = tmp_path_factory.mktemp("damages") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        patch.setattr("ungan_dist.runs.pipeline.LocalPool", PoolHere)
        first = run_command("run", "digits", *OPTIONS, "--output", output)
        assert first.returncode == 0, first.stderr
        second = small_config(output, methods=METHODS, num_seeds=2, fine_tuning=FineTuningConfig(epochs=2))
        second = replace(second, train=replace(second.train, epochs=1))
        audit(replace(second, execution=replace(second.execution, run_name="second")), run_units=InProcess())
        yield output


def try_damage(base: Path, output: Path, number: int) -> dict[str, str]:
    """Damage a copy, verify it, run it again, and describe the outcome; raise AssertionError if it was not found."""
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(base, output, copy_function=shutil.copy2)
    draw = random.Random(f"{SEED} {number}")
    kind, name = damage(draw, output)
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
    folder = name.split("/")[0] if name.count("/") == 1 and not name.startswith("run/") else name.split("/")[-2]
    return {"kind": kind, "file": name, "folder": folder, "verify": by_verify, "run": outcome}


@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_random_damages_are_found_and_healed_or_refused(two_runs: Path, tmp_path: Path, part: int) -> None:
    outcomes: list[dict[str, str]] = []
    failures: list[str] = []
    for number in range(part, NUM_DAMAGES, NUM_PARTS):
        try:
            outcomes.append(try_damage(two_runs, tmp_path / "out", number))
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n\n".join(failures)
    healed = [one for one in outcomes if one["run"] == "healed"]
    assert len(healed) > len(outcomes) / 3
    if place := os.environ.get("UNGAN_DAMAGES_RESULTS"):
        Path(place).mkdir(parents=True, exist_ok=True)
        (Path(place) / f"{part}.json").write_text(json.dumps(outcomes))
