"""Whole audits in one process are complete and repeatable, and are continued and extended without repeated work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import store
from ungan_dist.data.examples import gather
from ungan_dist.data.prepared import open_examples
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.reporting import rewrite_report
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.units import Done, Failed, Unit, execute
from ungan_dist.training.weights import load_weights

pytestmark = pytest.mark.usefixtures("figures_are_drawn_once")

without_figures = pytest.mark.usefixtures("without_figures")


def table(output: Path) -> bytes:
    return (output / "run/table.json").read_bytes()


def test_a_finished_run_has_all_its_files(finished_run: Path) -> None:
    folder = finished_run / "run"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"table.json", "table.md", "report.html", "timings.json", "config.json", "membership.npy"} <= names
    assert {f"models/0/{method}.safetensors" for method in ("original", "retrain", "ungan")} <= names
    assert not [name for name in names if name.endswith(".tmp")]
    assert [row["method"] for row in json.loads(table(finished_run))["rows"]] == ["original", "retrain", "ungan"]


def test_only_the_owner_may_read_a_run(finished_run: Path) -> None:
    modes = {path.relative_to(finished_run).as_posix(): path.stat().st_mode for path in finished_run.rglob("*")}
    assert {"run/config.json", "shadows", "run/models/0"} <= set(modes)
    assert not [name for name, mode in modes.items() if mode & 0o077]


def test_running_again_does_no_work(output: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file() and path.name != ".lock"}
    runner = InProcess()
    report = audit(small_config(output), run_units=runner)
    assert report.status == "COMPLETE"
    assert not runner.units
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_in_another_folder_gives_the_same_bytes(finished_run: Path, tmp_path: Path) -> None:
    audit(small_config(tmp_path), run_units=InProcess())
    assert table(tmp_path) == table(finished_run)


def test_a_report_is_rewritten_without_training(output: Path) -> None:
    before = table(output)
    for name in ("table.json", "report.html"):
        (output / "run" / name).unlink()
    rewrite_report(read_run(output / "run"))
    assert table(output) == before
    assert (output / "run/report.html").is_file()


@without_figures
def test_more_seeds_and_methods_train_no_shadow(output: Path) -> None:
    config = small_config(output)
    runner = InProcess()
    longer = replace(config, num_seeds=2, methods=(*config.methods, "fine_tuning"))
    report = audit(longer, run_units=runner)
    assert len(runner.units) == 5  # four methods for the new seed, one new method for the old
    assert not [unit for unit in runner.units if isinstance(unit, ShadowUnit)]
    assert [row.method for row in report.rows] == list(longer.methods)


@without_figures
def test_another_forget_request_on_the_same_pool_trains_no_shadow(output: Path) -> None:
    config = small_config(output)
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
def test_more_shadow_models_train_only_the_missing_ones(output: Path) -> None:
    config, before = small_config(output), json.loads(table(output))
    runner = InProcess()
    report = audit(replace(config, shadows=replace(config.shadows, num_models=8)), run_units=runner)
    # with half of the shadow models, the AUC is that of the report on them
    half = {method: aucs[4] for method, aucs in report.sensitivity.items()}
    assert half == pytest.approx({row["method"]: row["auc"]["mean"] for row in before["rows"]}, abs=1e-6)
    assert {row.method: row.auc.mean for row in report.rows} == pytest.approx(
        {method: aucs[8] for method, aucs in report.sensitivity.items()}
    )
    assert [unit.shadows for unit in runner.units if isinstance(unit, ShadowUnit)] == [(4, 5), (6, 7)]
    assert len(runner.units) == 2
    assert report.sizes["shadows"] == 8


@without_figures
def test_a_smaller_request_leaves_the_run(output: Path) -> None:
    config = small_config(output)
    larger = replace(config, num_seeds=2, shadows=replace(config.shadows, num_models=6))
    audit(larger, run_units=InProcess())
    before = table(output)
    runner = InProcess()
    report = audit(replace(config, methods=("original",)), run_units=runner)
    assert not runner.units
    assert (report.sizes["shadows"], report.sizes["seeds"], len(report.rows)) == (4, 1, 1)
    assert table(output) == before


def test_a_report_can_be_rewritten_on_another_machine(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table(output)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.chdir("/")
    report, _ = rewrite_report(read_run(output / "run"))
    assert report.status == "COMPLETE"
    assert table(output) == before


@without_figures
def test_temporary_files_of_a_dead_process_are_removed(output: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (output / f"run/.table.json.{dead.pid}.ab12.tmp").write_text("half")
    audit(small_config(output), run_units=InProcess())
    assert not list(output.rglob("*.tmp"))


@without_figures
def test_an_altered_result_is_computed_again(output: Path) -> None:
    config = small_config(output)
    before = table(output)
    unit = make_plan(config).shadows[1]
    file = output / unit.log_odds_file
    file.write_bytes(file.read_bytes()[:-4])
    runner = InProcess()
    audit(config, run_units=runner)
    assert [one.id for one in runner.units] == [unit.id]
    assert table(output) == before


@without_figures
def test_failed_units_give_a_partial_report_that_names_them(output: Path) -> None:
    config = small_config(output)
    config = replace(config, shadows=replace(config.shadows, num_models=6))
    unit = make_plan(config).shadows[1]
    (output / unit.marker).unlink()
    (output / unit.log_odds_file).unlink()
    (output / unit.log_odds_file).mkdir()
    with pytest.raises(ConfigError, match="is a folder and must be a file: remove it and run again"):
        audit(config, run_units=InProcess())
    (output / unit.log_odds_file).rmdir()

    def lose_a_device(units: Sequence[Unit]) -> Iterator[Done | Failed]:
        for one in units:
            if one.id == unit.id:
                yield Failed(unit=one, error="OSError: a device was lost")
            else:
                yield execute(one)

    report = audit(config, run_units=lose_a_device)
    assert report.status == "PARTIAL"
    (missing,) = report.missing
    assert missing.startswith("shadow models 2–3: OSError: a device was lost")
    assert report.sizes["shadows"] == 4
    runner = InProcess()
    assert audit(config, run_units=runner).status == "COMPLETE"
    assert len(runner.units) == 1


@without_figures
def test_a_method_that_diverges_is_named_and_the_rest_is_reported(output: Path) -> None:
    config = small_config(output)
    wild = replace(
        config,
        fine_tuning=replace(config.fine_tuning, learning_rate=1e30, epochs=2),
        execution=replace(config.execution, run_name="wild"),
    )
    report = audit(replace(wild, methods=(*config.methods, "fine_tuning")), run_units=InProcess())
    assert report.status == "COMPLETE WITH FAILURES"
    assert report.missing == []
    (failure,) = report.failures
    assert failure.sentence.startswith("Fine-Tuning, seed 0 (diverged): the model has diverged")
    assert [row.method for row in report.rows] == list(config.methods)


def test_another_config_under_the_same_name_is_refused(output: Path) -> None:
    config = small_config(output)
    with pytest.raises(ConfigError, match=r"train\.learning_rate: 0\.05 → 0\.2"):
        audit(replace(config, train=replace(config.train, learning_rate=0.2)), run_units=InProcess())
    result = run_command("run", "digits", *SMALL_OPTIONS, "--output", output, "--train.learning-rate", "0.2")
    assert result.returncode == 2
    assert "learning_rate" in result.stderr


def test_a_loaded_model_is_the_audited_one(finished_run: Path) -> None:
    folder = finished_run / "run"
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


def test_weights_of_another_architecture_or_with_a_pickle_are_refused(finished_run: Path, tmp_path: Path) -> None:
    model = ungan_dist.load(finished_run / "run", "ungan")
    path = tmp_path / "weights.safetensors"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ValueError, match=str(path)):
        load_weights(model, path)
    import safetensors.torch

    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="SmallCNN"):
        load_weights(model, path)


def test_the_stored_membership_is_used(finished_run: Path) -> None:
    membership = store.read_array(finished_run / "run/membership.npy")
    assert membership.shape == (4, 400)
    assert (membership.sum(axis=0) == 2).all()
    assert (np.asarray(make_plan(small_config(finished_run)).membership) == membership).all()
