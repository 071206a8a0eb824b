"""A quick audit of given models: no shadow model is trained, and no verdict goes beyond what its attacks can show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import user_models
from custom_audit import NUM_CLASSES, custom_arguments
from in_process import assert_refused, run_command
from sklearn.metrics import roc_auc_score

from ungan_dist import load, load_p_values
from ungan_dist.config.data import SourceConfig
from ungan_dist.data.sources.source import Source, load_source
from ungan_dist.errors import ConfigError
from ungan_dist.runs.plan import reopen_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.record import read_run
from ungan_dist.runs.units import execute
from ungan_dist.runs.upkeep import recompute
from ungan_dist.training.evaluate import query_entropies

pytestmark = pytest.mark.usefixtures("without_figures")
MODEL = "user_models:flat"


def to_input(source: Source) -> torch.Tensor:
    pixels = (source.images / 255 - np.asarray(source.mean)) / np.asarray(source.std)
    return torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2)


def fit(source: Source, members: np.ndarray, penalty: float) -> dict[str, torch.Tensor]:
    """Fit a linear model on all pixels by ridge regression, which reproduces the labels of its examples."""
    inputs = to_input(source)[members].flatten(1).double().numpy()
    targets = 20.0 * np.eye(NUM_CLASSES)[source.labels[members]]
    weights = inputs.T @ np.linalg.solve(inputs @ inputs.T + penalty * np.eye(len(inputs)), targets)
    model = user_models.flat(NUM_CLASSES, 3)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(weights.T))
        model[1].bias.zero_()
    return dict(model.state_dict())


@pytest.fixture(autouse=True)
def units_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))


@pytest.fixture(scope="module")
def source(pictures: Path) -> Source:
    return load_source(SourceConfig(kind="auto", path=str(pictures)))


@pytest.fixture
def files(source: Source, lists: Path) -> Path:
    """Weights of an original, and of two models that never had the forget set."""
    members = np.load(lists / "members.npy")
    forget = np.array([int(line) for line in (lists / "forget.csv").read_text().split()[1:]])
    retain = np.setdiff1d(members, forget)
    for name, examples, penalty in (("original", members, 10.0), ("retrained", retain, 10.0), ("forgot", retain, 20.0)):
        safetensors.torch.save_file(fit(source, examples, penalty), lists / f"{name}.safetensors")
    return lists


def arguments(pictures: Path, files: Path, unlearned: str, *more: str) -> list[str]:
    given = ("--original", f"{files}/original.safetensors", "--members", f"{files}/members.npy")
    return [
        *custom_arguments(pictures, files, *given, model=MODEL)[1:],
        *("--unlearned", f"{files / unlearned}.safetensors", "--attack.quick", *more),
    ]


def read_table(files: Path) -> dict[str, Any]:
    return json.loads((files / "out/run/table.json").read_text())


def find_row(table: dict[str, Any], method: str) -> dict[str, Any]:
    return next(row for row in table["rows"] if row["method"] == method)


def test_a_model_that_kept_everything_is_found_against_a_retrained_one(
    pictures: Path, files: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrained = ("--retrained", f"{files}/retrained.safetensors")
    rows = ("--methods", "original,retrain,unlearned")
    planned = run_command("plan", "custom", *arguments(pictures, files, "original", *retrained, *rows))
    assert planned.returncode == 0, planned.stderr
    assert "calls no method equivalent" in " ".join(planned.stdout.split())
    assert "0 of them shadow models" in planned.stdout

    done = run_command("audit", *arguments(pictures, files, "original", *retrained))
    assert done.returncode == 0, done.stderr
    assert not (files / "out/shadows").exists()
    table = read_table(files)
    row = find_row(table, "unlearned")
    assert row["verdict"]["outcome"] == "under-forgotten"
    assert row["verdict"]["smallest_delta"] is None
    assert list(row["attacks"]) == ["calibrated_loss", "entropy", "loss", "modified_entropy"]
    assert table["sizes"]["shadows"] == 0
    assert table["power"] is None
    page = (files / "out/run/report.html").read_text()
    for place in (" ".join(done.stdout.split()), page, " ".join(table["caveats"])):
        assert "no shadow model was trained" in place
        assert "miss leaks of hard examples" in place
    assert any(line.startswith("LiRA and RMIA") for line in table["not_tested"])

    # the AUC, from the weights alone
    model = user_models.flat(NUM_CLASSES, 3)
    model.load_state_dict(safetensors.torch.load_file(files / "original.safetensors"))
    forget = np.array([int(line) for line in (files / "forget.csv").read_text().split()[1:]])
    with torch.no_grad():
        p = torch.softmax(model(to_input(source)).double(), 1).numpy()
    own = p[np.arange(len(p)), source.labels]
    plan = reopen_plan(read_run(files / "out/run"))
    some = np.concatenate([forget, plan.split.pool[plan.draws[0].non_members]])
    expected = roc_auc_score(np.isin(some, forget), np.log(own[some]) - np.log1p(-own[some]))
    assert row["auc"]["mean"] == pytest.approx(expected, abs=1e-6)

    again = run_command("verify", files / "out/run")
    assert again.stdout.splitlines()[0].startswith("COMPLETE"), again.stdout
    monkeypatch.setattr(recompute, "query_entropies", lambda *options: 1 + query_entropies(*options))
    altered = run_command("verify", "--recompute", "--model", MODEL, files / "out/run")
    assert altered.stdout == "CORRUPT\n"
    assert altered.stderr.count("the entropies that") == 3
    assert "the log-odds that" not in altered.stderr
    assert_refused(run_command("export", files / "out/run", "--records"), "--attack.quick")
    with pytest.raises(ConfigError, match="no shadow models"):
        load_p_values(files / "out/run", "unlearned")
    loaded = load(files / "out/run", "retrain", model=MODEL)
    given = safetensors.torch.load_file(files / "retrained.safetensors")
    assert all(torch.equal(value, given[name]) for name, value in loaded.state_dict().items())


def test_a_model_that_forgot_is_not_called_equivalent(pictures: Path, files: Path) -> None:
    done = run_command("audit", *arguments(pictures, files, "forgot", "--retrained", f"{files}/retrained.safetensors"))
    assert done.returncode == 0, done.stderr
    assert find_row(read_table(files), "unlearned")["verdict"]["outcome"] == "no verdict: quick attacks alone"


def test_an_original_without_a_leak_is_a_caveat_and_no_shadow_model_is_spoken_of(pictures: Path, files: Path) -> None:
    shutil.copy(files / "forgot.safetensors", files / "original.safetensors")
    done = run_command(
        "audit", *arguments(pictures, files, "original", "--retrained", f"{files}/retrained.safetensors")
    )
    assert done.returncode == 0, done.stderr
    table = read_table(files)
    outcomes = [row["verdict"]["outcome"] for row in table["rows"]]
    assert outcomes == ["no verdict: quick attacks alone", "reference", "no verdict: quick attacks alone"]
    [caveat] = [text for text in table["caveats"] if "No quick attack shows a leak in the original" in text]
    assert "may miss a leak" in caveat
    assert "each shadow model" not in " ".join(table["caveats"]).lower()
    # the original unlearned by nothing is a control that cannot pass unnoticed
    assert any("Unlearned elsewhere has exactly the weights of the original" in text for text in table["caveats"])


@pytest.mark.parametrize("other", ["original", "unlearned"])
def test_a_retrained_model_that_equals_another_given_one_is_refused(pictures: Path, files: Path, other: str) -> None:
    """Another file, format, precision and prefix make no difference: the weights that are loaded are compared."""
    equal = {"original": "original", "unlearned": "forgot"}[other]
    state = safetensors.torch.load_file(files / f"{equal}.safetensors")
    held = {"net": {f"module.{name}": value.double() for name, value in state.items()}, "ema": {"other": torch.ones(1)}}
    torch.save(held, files / "again.pt")
    refused = run_command("audit", *arguments(pictures, files, "forgot", "--retrained", f"{files}/again.pt"))
    assert_refused(refused, f"{files}/again.pt", f"--{other} {files}/{equal}.safetensors", "leave --retrained out")
    assert not (files / "out").exists()


def test_without_a_retrained_model_not_even_a_trace_is_concluded(pictures: Path, files: Path) -> None:
    done = run_command("audit", *arguments(pictures, files, "original"))
    assert done.returncode == 0, done.stderr
    table = read_table(files)
    assert [row["verdict"]["outcome"] for row in table["rows"]] == ["no verdict: quick attacks alone"] * 2
    assert any("Without Retrain, no trace is concluded" in text for text in table["caveats"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--attack.unlearned-shadows", "retrain"), "attack.quick trains no shadow models"),
        (("--methods", "original,unlearned", "--retrained", "r.safetensors"), "add retrain to --methods"),
    ],
)
def test_options_that_conflict_are_refused(pictures: Path, lists: Path, more: tuple[str, ...], words: str) -> None:
    result = run_command("audit", *arguments(pictures, lists, "original", *more))
    assert_refused(result, words)
