"""Several unlearnings of each original: units, files, the split in the report, and every command that reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from in_process import InProcess, run_command
from jsonschema import Draft202012Validator
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import load, store
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan

pytestmark = pytest.mark.usefixtures("without_figures")
SCHEMA = Path(ungan_dist.__file__).parent / "report/table.schema.json"


@pytest.fixture(scope="module")
def unlearned_twice(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The finished run, extended by a second unlearning of its original; and the titles of the units it trained."""
    output = shutil.copytree(finished_run, tmp_path_factory.mktemp("twice") / "out")
    runner = InProcess()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        report = audit(small_config(output, num_unlearnings=2), run_units=runner)
    assert report.status == "COMPLETE"
    return output, [unit.title for unit in runner.units]


def test_only_the_further_unlearnings_are_trained(unlearned_twice: tuple[Path, list[str]]) -> None:
    output, trained = unlearned_twice
    assert sorted(trained) == ["retrain, seed 0, unlearning 1", "ungan, seed 0, unlearning 1"]
    once, twice = (make_plan(small_config(output, num_unlearnings=number)) for number in (1, 2))
    assert once.record.run_hash == twice.record.run_hash
    assert {unit.id for unit in once.units} < {unit.id for unit in twice.units}
    assert len({unit.id for unit in twice.targets}) == 5


def test_unlearnings_of_one_original_differ_and_are_loaded_by_number(unlearned_twice: tuple[Path, list[str]]) -> None:
    run = unlearned_twice[0] / "run"
    for method in ("retrain", "ungan"):
        first, second = (load(run, method, unlearning=number).state_dict() for number in (0, 1))
        assert any(not torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ConfigError, match="no model of 'ungan-unlearning-2'"):
        load(run, "ungan", unlearning=2)
    p_values = [ungan_dist.load_p_values(run, "ungan", unlearning=number).p for number in (0, 1)]
    assert not np.array_equal(*p_values)


def test_every_report_shows_the_split(unlearned_twice: tuple[Path, list[str]]) -> None:
    run = unlearned_twice[0] / "run"
    table = store.read_json(run / "table.json")
    Draft202012Validator(store.read_json(SCHEMA)).validate(table)
    assert table["sizes"]["unlearnings"] == 2
    rows = {row["method"]: row for row in table["rows"]}
    assert "stages" not in rows["original"]
    gap = rows["ungan"]["stages"]["gap"]
    assert gap["originals"] is None  # one seed
    assert gap["unlearnings"]["low"] < gap["unlearnings"]["value"] < gap["unlearnings"]["high"]
    assert rows["ungan"]["verdict"]["gap"]["per_seed"] == pytest.approx([sum(gap["values"][0]) / 2], abs=2e-6)
    assert "Where the variation comes from" in (run / "report.html").read_text()
    assert "Variation of UnGAN, gap in AUC: unlearnings" in (run / "table.md").read_text()
    shown = run_command("report", run).stdout
    assert "Variation of UnGAN" in shown
    assert "cannot replace originals" in " ".join(shown.split())


def test_the_commands_know_every_unlearning(unlearned_twice: tuple[Path, list[str]], tmp_path: Path) -> None:
    output = shutil.copytree(unlearned_twice[0], tmp_path / "out")
    run = output / "run"
    assert run_command("verify", run).stdout == "COMPLETE\n"
    again = run_command("run", "digits", "--output", output, *SMALL_OPTIONS, "--num-unlearnings", "2")
    assert (again.returncode, "Variation of UnGAN" in again.stdout) == (0, True), again.stderr
    planned = run_command("plan", "digits", "--output", output, *SMALL_OPTIONS, "--num-unlearnings", "3", "--no-probe")
    assert "2 to train or unlearn, 9 done" in planned.stdout, planned.stdout + planned.stderr
    assert run_command("export", run, "--records").returncode == 0
    records = pq.read_table(run / "records.parquet").select(["method", "unlearning"]).to_pandas()
    assert records.groupby("method")["unlearning"].nunique().to_dict() == {"original": 1, "retrain": 2, "ungan": 2}
    (run / "log_odds/0/ungan-unlearning-1.npy").write_bytes(b"changed")
    verified = run_command("verify", run)
    assert verified.stdout == "CORRUPT\n"
    assert "ungan, seed 0, unlearning 1" in verified.stderr
    assert run_command("purge", run).returncode == 0
    assert not any(run.glob("log_odds/*/*"))
    assert (run / "models/0/ungan-unlearning-1.safetensors").is_file()
    assert json.loads((run / "table.json").read_text())["sizes"]["unlearnings"] == 2
