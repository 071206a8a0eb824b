"""Run whole audits of user-supplied models, weights and data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from custom_audit import NUM_CLASSES, PER_CLASS, SHORT, custom_arguments, parse_config, run_command, write_noise_parquet
from in_process import InProcess

from ungan_dist.config.recipes import custom
from ungan_dist.data.list_split import MEMBER_FRACTION
from ungan_dist.data.prepared import prepare
from ungan_dist.errors import ConfigError
from ungan_dist.loading import load
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.shadows import evaluate_shadows, train_shadows
from ungan_dist.runs.targets import train_target
from ungan_dist.runs.upkeep.purge import plan_purge


@pytest.mark.process
@pytest.mark.timeout(240)
def test_run_custom_and_audit_accept_a_mobilenet(
    pictures: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = ["--model", "mypackage.models:build", "--original", "weights.safetensors"]
    brought += ["--source.path", str(pictures), "--forget", "forget.csv", "--members", "members.npy", *SHORT]
    ours = ["run", "custom", *brought, "--methods", "original,fine_tuning", "--fine-tuning.epochs", "1"]
    assert run_command(*ours, "--execution.run-name", "ours") == 0
    unlearned = load("out/ours", "fine_tuning", model="mypackage.models:build").state_dict()
    original = safetensors.torch.load_file("weights.safetensors")
    assert unlearned.keys() == original.keys()
    assert not torch.equal(unlearned["classifier.3.weight"], original["classifier.3.weight"])
    text = Path("out/ours/table.md").read_text()
    assert "The weights of original were given" in text
    assert "not by the code behind it" in text

    fleet = {path: path.stat().st_mtime_ns for path in Path("out/shadows").iterdir()}
    elsewhere = ["audit", "--unlearned", "unlearned.safetensors", *brought, "--execution.run-name", "elsewhere"]
    assert run_command(*elsewhere) == 0
    assert "Unlearned" in (message := capsys.readouterr().out), message
    table = json.loads(Path("out/elsewhere/table.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["original", "unlearned"]
    for name, value in load("out/elsewhere", "unlearned", model="mypackage.models:build").state_dict().items():
        assert torch.equal(value, safetensors.torch.load_file("unlearned.safetensors")[name])
    # the duration of the external unlearning is unknown
    assert set(json.loads(Path("out/elsewhere/timings.json").read_text())["methods"]) == {"original"}
    # the audit of the other model uses the same shadow models
    assert {path: path.stat().st_mtime_ns for path in Path("out/shadows").iterdir()} == fleet


@pytest.mark.process
def test_run_custom_accepts_parquet_with_ids(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"person-{number}" for number in range(120)]
    write_noise_parquet(Path("data.parquet"), ids)
    Path("forget.csv").write_text("id,when\n" + "".join(f"{id},2024-01-01\n" for id in ids[:6]))
    Path("mypackage/models.py").write_text("from user_models import linear as build")
    arguments = ["custom", "--model", "mypackage.models:build", "--source.path", "data.parquet"]
    arguments += ["--forget=forget.csv", "--methods", "original,retrain,cf_k", *SHORT, "--execution.run-name", "run"]
    assert run_command("run", *arguments) == 0
    table = json.loads(Path("out/run/table.json").read_text())
    assert table["status"] == "COMPLETE"
    assert table["sizes"]["forget"] == 6
    assert table["sizes"]["train"] == round(MEMBER_FRACTION * 120)
    assert isinstance(load("out/run", "cf_k", model="mypackage.models:build"), torch.nn.Sequential)
    assert run_command("verify", "out/run") == 0
    assert any(f"not touched: forget {project}/forget.csv" in note for note in plan_purge(Path("out/run")).notes)
    Path("forget.csv").write_text("person-7\n")
    assert run_command("verify", "out/run") == 1
    assert "given weights or lists have changed since the run was made" in capsys.readouterr().err
    table = Path("out/run/table.json").read_bytes()
    assert run_command("report", "out/run") == 2
    message = capsys.readouterr().err
    assert f"given weights or lists have changed since the run was made ({project}/forget.csv): restore it" in message
    Path("forget.csv").unlink()
    assert run_command("report", "out/run") == 2
    assert "forget.csv does not exist" in (message := capsys.readouterr().err)
    assert "A report needs the inputs of the run: restore them" in message
    assert Path("out/run/table.json").read_bytes() == table
    Path("mypackage/models.py").unlink()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]
    with pytest.raises(ConfigError, match=r"mypackage.models"):
        load("out/run", "cf_k", model="mypackage.models:build")


def test_given_weights_are_the_original_and_assumptions_are_reported(
    pictures: Path, lists: Path, weights: Path
) -> None:
    more = ("--original", str(weights), "--members", str(lists / "members.npy"), "--methods", "original")
    report = audit(parse_config(*custom_arguments(pictures, lists, *more)), run_units=InProcess())
    loaded = load(lists / "out/run", "original", model="user_models:linear").state_dict()
    for name, value in safetensors.torch.load_file(weights).items():
        assert torch.equal(loaded[name], value)
    assert report.sizes["train"] == 10 * NUM_CLASSES
    text = (lists / "out/run/table.md").read_text()
    assert "Shadow models were trained by this run's recipe: 1 epochs of SGD, batch 64, learning rate 0.05" in text
    assert "fewer than the original" in text

    # the next forget request is another run on the same shadow models
    fleet = {path: path.stat().st_mtime_ns for path in (lists / "out/shadows").iterdir()}
    assert len(fleet) == 4
    (lists / "forget.csv").write_text("\n".join(str(2 + PER_CLASS * label) for label in range(NUM_CLASSES)))
    following = audit(
        parse_config(*custom_arguments(pictures, lists, *more), "--execution.run-name", "next"), run_units=InProcess()
    )
    assert following.status == "COMPLETE"
    assert following.sizes["forget"] == NUM_CLASSES
    assert following.run_hash != report.run_hash
    assert {path: path.stat().st_mtime_ns for path in (lists / "out/shadows").iterdir()} == fleet


def test_draws_inside_a_users_layers_are_repeatable(pictures: Path, lists: Path) -> None:
    """Dropout draws from the global generator, so a retried unit must give the same bits."""
    more = ("--methods", "original,fine_tuning", "--fine-tuning.epochs", "1")
    plan = make_plan(parse_config(*custom_arguments(pictures, lists, *more, model="user_models:dropping")))
    prepare(plan.source, lists / "out")
    log_odds: list[np.ndarray] = []
    weights: list[torch.Tensor] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        log_odds.append(evaluate_shadows(plan.shadows[0], train_shadows(plan.shadows[0])))
        weights.append(train_target(plan.originals[0]).model.get_parameter("2.weight"))
        assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(*log_odds)
    assert torch.equal(*weights)
    undropped = make_plan(parse_config(*custom_arguments(pictures, lists, *more)))
    unit = undropped.shadows[0]
    assert not np.array_equal(evaluate_shadows(unit, train_shadows(unit)), log_odds[0])


def test_python_and_the_command_line_build_the_same_config() -> None:
    brought = {"model": "m:f", "original": "o", "forget": "f", "members": "m", "unlearned": "u"}
    words = [word for name, value in brought.items() for word in (f"--{name}", value)]
    config = parse_config("custom", *words, "--source.path", "d", "--methods", "original,unlearned")
    assert custom(data="d", **brought) == config
