"""A whole audit: complete, repeatable, continued after every kind of end, extended without repeating work."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import InProcess
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import store
from ungan_dist.data.examples import gather
from ungan_dist.data.prepared import open_examples
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import audit, report_of
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.training.weights import load_weights

without_figures = pytest.mark.usefixtures("without_figures")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished run by the command line."""
    output = tmp_path_factory.mktemp("finished")
    result = run(output)
    assert result.returncode == 0, result.stderr
    assert "report.html" in result.stdout
    return output


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "ungan_dist", "run", "digits", *SMALL_OPTIONS, "--output", str(output), *options]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    process = start(output, *options)
    stdout, stderr = process.communicate(timeout=110)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def table(output: Path) -> bytes:
    return (output / "run/table.json").read_bytes()


def test_a_finished_run_has_all_its_files_and_progress_was_told(finished: Path) -> None:
    names = {str(path.relative_to(finished / "run")) for path in (finished / "run").rglob("*") if path.is_file()}
    assert {"table.json", "table.md", "report.html", "timings.json", "config.json", "membership.npy"} <= names
    assert {f"models/0/{method}.safetensors" for method in ("original", "retrain", "ungan")} <= names
    assert not [name for name in names if name.endswith(".tmp")]
    assert [row["method"] for row in json.loads(table(finished))["rows"]] == ["original", "retrain", "ungan"]


def test_running_again_does_no_work(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    runner = InProcess()
    report = audit(small_config(finished), run_units=runner)
    assert report.status == "COMPLETE"
    assert not runner.units
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_another_run_elsewhere_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    audit(small_config(tmp_path), run_units=InProcess())
    assert table(tmp_path) == table(finished)


def test_a_report_is_written_anew_without_training(finished: Path) -> None:
    before = table(finished)
    for name in ("table.json", "report.html"):
        (finished / "run" / name).unlink()
    report_of(read_run(finished / "run"))
    assert table(finished) == before
    assert (finished / "run/report.html").is_file()


def test_killed_five_times_at_random_and_continued(finished: Path, tmp_path: Path) -> None:
    generator = random.Random(20)
    for _ in range(5):
        process = start(tmp_path)
        time.sleep(generator.uniform(1, 7))
        process.kill()
        process.communicate()
    assert run(tmp_path).returncode == 0
    assert table(tmp_path) == table(finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_keeps_its_state_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "--train.epochs", "400")
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/membership.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3, stderr
    assert "run the same command to continue" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_up_ends_with_3_and_the_run_goes_on_with_space(finished: Path, small_disk: Path) -> None:
    result = run(small_disk)
    assert result.returncode == 3, result.stderr
    assert "no space left" in result.stderr
    assert (small_disk / "run/config.json").exists()
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    assert run(small_disk).returncode == 0
    assert table(small_disk) == table(finished)


@without_figures
def test_more_seeds_and_methods_train_no_shadow(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    audit(config, run_units=InProcess())
    runner = InProcess()
    longer = replace(config, num_seeds=2, methods=(*config.methods, "fine_tuning"))
    report = audit(longer, run_units=runner)
    assert len(runner.units) == 5  # four methods for the new seed, one new method for the old
    assert not [unit for unit in runner.units if isinstance(unit, ShadowUnit)]
    assert [row.method for row in report.rows] == list(longer.methods)


@without_figures
def test_another_forget_request_on_the_same_pool_trains_no_shadow(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    audit(config, run_units=InProcess())
    runner = InProcess()
    other = replace(
        config,
        split=replace(config.split, forget_fraction=0.1),
        execution=replace(config.execution, run_name="another request"),
    )
    audit(other, run_units=runner)
    assert len(runner.units) == 3
    assert not [unit for unit in runner.units if isinstance(unit, ShadowUnit)]


@without_figures
def test_more_shadow_models_train_only_the_missing_ones(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    audit(config, run_units=InProcess())
    runner = InProcess()
    report = audit(replace(config, shadows=replace(config.shadows, num_models=8)), run_units=runner)
    assert [unit.shadows for unit in runner.units if isinstance(unit, ShadowUnit)] == [(4, 5), (6, 7)]
    assert len(runner.units) == 2
    assert report.sizes["shadows"] == 8


@without_figures
def test_an_audit_that_ended_within_a_block_is_extended_without_training_anything_twice(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    blocks = replace(config, shadows=replace(config.shadows, num_models=6, unit_size=4))
    audit(blocks, run_units=InProcess())
    runner = InProcess()
    report = audit(replace(blocks, shadows=replace(blocks.shadows, num_models=12)), run_units=runner)
    shadows = [unit.shadows for unit in runner.units if isinstance(unit, ShadowUnit)]
    assert shadows == [(6, 7), (8, 9, 10, 11)]
    assert report.sizes["shadows"] == 12


@without_figures
def test_a_run_never_shrinks(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    larger = replace(config, num_seeds=2, shadows=replace(config.shadows, num_models=6))
    audit(larger, run_units=InProcess())
    before = table(tmp_path)
    runner = InProcess()
    report = audit(replace(config, methods=("original",)), run_units=runner)
    assert not runner.units
    assert (report.sizes["shadows"], report.sizes["seeds"], len(report.rows)) == (6, 2, 3)
    assert table(tmp_path) == before


def test_a_report_can_be_written_where_the_run_was_not_computed(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(finished)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.chdir("/")
    report, _ = report_of(read_run(finished / "run"))
    assert report.status == "COMPLETE"
    assert table(finished) == before


@without_figures
def test_what_a_dead_process_wrote_aside_is_swept_away(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    audit(config, run_units=InProcess())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f"run/.table.json.{dead.pid}.ab12.tmp").write_text("half")
    audit(config, run_units=InProcess())
    assert not list(tmp_path.rglob("*.tmp"))


@without_figures
def test_an_altered_result_is_computed_again(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    audit(config, run_units=InProcess())
    before = table(tmp_path)
    unit = make_plan(config).shadows[1]
    file = tmp_path / unit.log_odds_file
    file.write_bytes(file.read_bytes()[:-4])
    runner = InProcess()
    audit(config, run_units=runner)
    assert [one.id for one in runner.units] == [unit.id]
    assert table(tmp_path) == before


@without_figures
def test_failed_units_give_a_partial_report_that_names_them(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config = replace(config, shadows=replace(config.shadows, num_models=6))
    unit = make_plan(config).shadows[1]
    (tmp_path / unit.log_odds_file).mkdir(parents=True)
    report = audit(config, run_units=InProcess())
    assert report.status == "PARTIAL"
    (missing,) = report.missing
    assert missing.startswith("shadow models 2–3: IsADirectoryError")
    assert report.sizes["shadows"] == 4
    (tmp_path / unit.log_odds_file).rmdir()
    runner = InProcess()
    assert audit(config, run_units=runner).status == "COMPLETE"
    assert len(runner.units) == 1


@without_figures
def test_a_method_that_diverges_is_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    wild = replace(config, fine_tuning=replace(config.fine_tuning, learning_rate=1e30, epochs=2))
    report = audit(replace(wild, methods=(*config.methods, "fine_tuning")), run_units=InProcess())
    assert report.status == "PARTIAL"
    assert report.missing[0].startswith("fine_tuning, seed 0: ValueError: the model has diverged")
    assert [row.method for row in report.rows] == list(config.methods)


def test_another_config_under_the_same_name_is_refused(finished: Path) -> None:
    config = small_config(finished)
    with pytest.raises(ConfigError, match=r"train\.learning_rate: 0\.05 → 0\.2"):
        audit(replace(config, train=replace(config.train, learning_rate=0.2)), run_units=InProcess())
    result = run(finished, "--train.learning-rate", "0.2")
    assert result.returncode == 2
    assert "learning_rate" in result.stderr


def test_a_loaded_model_is_the_one_that_was_audited(finished: Path) -> None:
    folder = finished / "run"
    model = ungan_dist.load(folder, "ungan")
    assert not model.training
    plan = make_plan(read_run(folder).config)
    data = open_examples(plan.originals[0].prepared, "cpu")
    with torch.no_grad():
        test = torch.from_numpy(plan.split.test)
        accuracy = (model(gather(data, test)).argmax(1) == data.labels[test]).float().mean()
    facts = store.read_json(folder / "results/0/ungan.json")["facts"]
    assert float(accuracy) == pytest.approx(facts["accuracy"]["test"], abs=1e-6)
    with pytest.raises(ConfigError, match="scrub"):
        ungan_dist.load(folder, "scrub")


def test_weights_of_another_architecture_or_with_a_pickle_are_refused(finished: Path, tmp_path: Path) -> None:
    model = ungan_dist.load(finished / "run", "ungan")
    path = tmp_path / "weights.safetensors"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ValueError, match=str(path)):
        load_weights(model, path)
    import safetensors.torch

    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="SmallCNN"):
        load_weights(model, path)


def test_the_membership_that_was_stored_is_the_one_that_was_used(finished: Path) -> None:
    membership = store.read_array(finished / "run/membership.npy")
    assert membership.shape == (4, 400)
    assert (membership.sum(axis=0) == 2).all()
    assert (np.asarray(make_plan(small_config(finished)).membership) == membership).all()


def test_two_drivers_on_one_folder_are_refused(tmp_path: Path) -> None:
    first = start(tmp_path, "--train.epochs", "400")
    deadline = time.monotonic() + 60
    while not (tmp_path / "run/membership.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second = run(tmp_path, "--train.epochs", "400")
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another process" in second.stderr


def test_the_environment_does_not_change_results(finished: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    arguments = ["run", "digits", *SMALL_OPTIONS, "--output", str(tmp_path), "--execution.num-processes", "2"]
    command = [sys.executable, "-m", "ungan_dist", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True, timeout=110)
    assert table(tmp_path) == table(finished)
