"""Random damages of a finished run: each is found by ``verify`` and by the next ``run``, healed or refused."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damage_trials import NUM_DAMAGES, OPTIONS, RECORD, SEED, Trial, make_two_runs, patch_slow_parts, try_damage
from damages import KINDS
from in_process import run_command

NUM_IN_CI = 60
NUM_PARTS = 6
SECURITY = Path(__file__).parents[2] / "SECURITY.md"


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    output = tmp_path_factory.mktemp("damages") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch_slow_parts(patch)
        make_two_runs(output)
        yield output


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


@pytest.mark.parametrize("part", range(NUM_PARTS))
@pytest.mark.process
def test_random_damages_are_found_and_healed_or_refused(
    two_runs: Path, record: dict[str, Any], tmp_path: Path, part: int
) -> None:
    outcomes: list[Trial] = []
    failures: list[str] = []
    for number in range(part, NUM_IN_CI, NUM_PARTS):
        try:
            outcomes.append(try_damage(two_runs, tmp_path / "out", number))
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n\n".join(failures)
    recorded = {(one["kind"], one["verify"], one["run"]) for one in record["outcomes"]}
    assert {(one.kind, one.verify, one.run) for one in outcomes} <= recorded


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("data/*/images.npy", "run/results/1/fine_tuning.json"),
        ("run/models/1/original.safetensors", "run/results/1/fine_tuning.json"),
        ("shadows/*.npy", "run/results/0/original.json"),
    ],
)
def test_a_damage_that_no_time_shows_is_healed_before_the_file_is_used(
    two_runs: Path, tmp_path: Path, name: str, lost: str
) -> None:
    output = shutil.copytree(two_runs, tmp_path / "out", copy_function=shutil.copy2)
    path = sorted(output.glob(name))[0]
    before = path.read_bytes()
    KINDS["bit flipped, time kept"](random.Random(SEED), path)
    assert path.read_bytes() != before
    (output / lost).unlink()
    again = run_command("run", "digits", *OPTIONS, "--output", output)
    assert again.returncode == 0, again.stderr
    assert path.read_bytes() == before
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"
    assert (output / "run/table.json").read_bytes() == (two_runs / "run/table.json").read_bytes()


def test_all_damages_are_recorded(record: dict[str, Any]) -> None:
    outcomes = record["outcomes"]
    assert (record["seed"], record["tried"]) == (SEED, NUM_DAMAGES)
    assert sum(one["count"] for one in outcomes) == NUM_DAMAGES
    assert {one["kind"] for one in outcomes} == set(KINDS)
    assert record["files_damaged"] == record["files"]


def test_the_security_page_states_the_record(record: dict[str, Any]) -> None:
    def count(column: str, *values: str) -> int:
        return sum(one["count"] for one in record["outcomes"] if one[column] in values)

    page = " ".join(SECURITY.read_text().split())
    paragraph = re.search(r"\b\d+ random damages with a fixed seed.*?without reading the file\.", page)
    assert paragraph
    assert [int(number) for number in re.findall(r"\b\d+\b", re.sub(r"`[^`]*`", "", paragraph[0]))] == [
        NUM_DAMAGES,
        record["files"],
        count("verify", "CORRUPT", "PARTIAL", "refused"),
        count("verify", "no loss"),
        count("run", "healed"),
        count("run", "refused"),
        count("run", "not read"),
    ]
