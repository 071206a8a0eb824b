"""What a finished run consists of: formats, hashes, modes, and nothing of single examples in its markers."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run_command
from safetensors.numpy import load_file
from small_audit import SMALL_OPTIONS

from ungan_dist import store
from ungan_dist.files import hash_file, hash_json
from ungan_dist.runs.upkeep.purge import purge

RUN = ("digits", *SMALL_OPTIONS)
REPORT = ("report.html", "table.json", "table.md", "timings.json")


def all_files(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("*") if path.is_file())


def test_every_file_has_a_format_that_runs_no_code(finished_run: Path) -> None:
    for path in all_files(finished_run):
        if path.suffix == ".safetensors":
            assert load_file(path)
        elif path.suffix == ".npy":
            assert np.load(path, allow_pickle=False).size
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.name == ".lock":
            assert not path.read_bytes()
        else:
            assert path.suffix in (".html", ".md", ".svg")
            path.read_text()


def test_every_record_has_its_own_hash_and_every_file_one_in_a_marker(finished_run: Path) -> None:
    hashed: set[Path] = set()
    records = [path for path in all_files(finished_run) if path.suffix == ".json" and path.name not in REPORT]
    for path in records:
        record = json.loads(path.read_bytes())
        assert record.pop("sha256") == hash_json(record), path
        # names are relative to the run folder, or to the output folder for what runs share
        root = finished_run / "run" if path.is_relative_to(finished_run / "run") else finished_run
        for name, hash in record.get("files", {}).items():
            assert hash_file(root / name) == hash
            hashed.add(root / name)
    rest = [path for path in all_files(finished_run) if path not in records and path.name != ".lock"]
    assert rest
    assert set(rest) == hashed


def test_every_file_and_folder_is_its_owners_alone(finished_run: Path) -> None:
    for path in [finished_run, *finished_run.rglob("*")]:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.usefixtures("without_figures")
def test_what_commands_print_holds_no_score(output: Path) -> None:
    printed = ""
    for words in (["verify", output / "run"], ["report", output / "run"], ["run", *RUN, "--output", output]):
        (output / "run/finished.json").unlink(missing_ok=True)
        done = run_command(*words)
        assert done.returncode == 0, done.stderr
        printed += done.stdout + done.stderr
    numbers = set(re.findall(r"-?\d+\.\d{3,}", printed))
    values = np.concatenate([np.load(path).ravel() for path in output.glob("run/log_odds/0/*.npy")])
    assert len(values) > 100
    assert numbers.isdisjoint(f"{value:.{digits}f}" for value in values for digits in range(3, 7))


def longest_list(value: Any) -> int:
    """Return the length of the longest list in plain data."""
    if isinstance(value, dict):
        return max(map(longest_list, value.values()), default=0)
    if isinstance(value, list):
        return max(len(value), *map(longest_list, value)) if value else 0
    return 0


@pytest.mark.usefixtures("without_figures")
def test_markers_that_stay_after_a_purge_hold_no_value_of_an_example(output: Path) -> None:
    num_forget = store.read_json(output / "run/table.json")["sizes"]["forget"]
    purge(output / "run")
    markers = [*output.glob("run/results/*/*.json"), output / "run/report.json"]
    assert len(markers) == 4
    for path in markers:
        facts = store.read_marker(path)["facts"]
        assert longest_list(facts) < min(num_forget, 10), path  # one value an epoch, no value an example
    facts = store.read_marker(output / "run/results/0/ungan.json")["facts"]
    assert {"accuracy", "unlearning_seconds", "curves"} <= set(facts)
