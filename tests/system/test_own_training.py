"""A training function of the user's own through the command line: every model is trained by it, and is known by it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS

from ungan_dist.config.recipes import digits
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import execute

pytestmark = pytest.mark.usefixtures("without_figures")
MODULE = "adamw_training"
SOURCE = """
import json
import random

import torch
from torch import nn
from torch.utils.data import DataLoader


def fit(model, dataset, *, seed, device, on_progress):
    loader = DataLoader(dataset, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        on_progress(epoch + 1, 2)
    with open("calls.txt", "a") as file:
        file.write(json.dumps([len(dataset), seed, model.training]) + "\\n")
    return model


def fit_by_chance(model, dataset, *, seed, device, on_progress):
    with torch.no_grad():
        next(model.parameters()).mul_(random.random())
    return fit(model, dataset, seed=seed, device=device, on_progress=on_progress)


def forgetful(model, dataset, *, seed, device, on_progress):
    fit(model, dataset, seed=seed, device=device, on_progress=on_progress)


def wrapped(model, dataset, *, seed, device, on_progress):
    return nn.Sequential(model)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of training functions, in which commands run."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop(MODULE, None)


def run(function: str, *words: str) -> Any:
    sys.modules.pop(MODULE, None)
    options = (*SMALL_OPTIONS, "--methods", "original,retrain", "--output", "out")
    return run_command("run", "digits", *options, "--train.function", f"{MODULE}:{function}", *words)


@pytest.mark.process
def test_it_trains_the_original_retrain_and_every_shadow_model_on_workers(project: Path) -> None:
    done = run("fit")
    assert done.returncode == 0, done.stderr
    calls = [json.loads(line) for line in (project / "calls.txt").read_text().splitlines()]
    tried, trained = calls[:2], calls[2:]
    assert [size for size, _, _ in tried] == [16, 16]
    # the original, four shadow models of half the pool each, and Retrain
    assert sorted(size for size, _, _ in trained) == [160, 200, 200, 200, 200, 200]
    assert len({seed for _, seed, _ in trained}) == 6
    assert all(is_training for _, _, is_training in calls)
    # other source is another run
    (project / f"{MODULE}.py").write_text(SOURCE.replace("1e-2", "1e-3"))
    assert_refused(run("fit"), "holds a run of another config", "train.function_source")


def test_one_that_gives_two_results_for_a_seed_is_refused_unless_accepted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    assert_refused(run("fit_by_chance"), "gave two results for one seed", "--train.nondeterministic")
    accepted = run("fit_by_chance", "--train.nondeterministic")
    assert accepted.returncode == 0, accepted.stderr
    assert "gives two results for one seed" in accepted.stderr


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("forgetful", ("must return the trained nn.Module, got NoneType",)),
        ("wrapped", ("returned a model of another architecture", "return the model itself")),
        ("absent", ("training function adamw_training:absent", "has no function 'absent'")),
    ],
)
def test_one_that_cannot_train_is_refused_before_anything_is_trained(
    project: Path, function: str, words: tuple[str, ...]
) -> None:
    assert_refused(run(function), *words)
    assert not list(Path("out").rglob("*.npy"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shadows": {"engine": "graph"}}, "has steps of its own, which shadows.engine graph cannot take"),
        ({"train": {"num_workers": 2}}, "trains a model in one process"),
        ({"train": {"function": "fit"}}, "a training function of your own is named module:function"),
    ],
)
def test_what_it_cannot_be_joined_with_is_refused(project: Path, options: dict[str, Any], reason: str) -> None:
    given = {"function": f"{MODULE}:fit"} | options.get("train", {})
    with pytest.raises(ValueError, match=reason):
        digits(**(options | {"train": given}))
