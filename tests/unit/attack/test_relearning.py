"""Relearning: curves against plain steps, a model that hides its forget set against a retrained one, the interval."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from in_process import assert_refused, run_command
from scipy.stats import t as student_t
from small_audit import SMALL_OPTIONS
from synthetic_report import make_report
from torch import nn

import ungan_dist
from ungan_dist.attack.relearning import measure_relearning
from ungan_dist.config.training import TrainConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import execute
from ungan_dist.training.relearning import NUM_STEPS, choose_shown, relearn

pytestmark = pytest.mark.usefixtures("without_figures")
SCHEMA = Path(ungan_dist.__file__).parent / "report/table.schema.json"


def noise_examples(number: int = 120) -> Examples:
    generator = torch.Generator().manual_seed(0)
    return Examples(
        images=torch.randint(0, 256, (number, 8, 8, 1), generator=generator, dtype=torch.uint8),
        labels=torch.arange(number) % 3,
        table=make_normalisation_table((0.5,), (0.25,)),
        num_classes=3,
    )


def memorise(data: Examples, members: torch.Tensor) -> nn.Sequential:
    """Learn noise by heart, and then lose the last layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softmax(dim=1), nn.Linear(3, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(gather(data, members)), data.labels[members]).backward()
        optimizer.step()
    with torch.no_grad():
        model[3].weight.zero_()
        model[3].bias.zero_()
    return model


def test_a_model_that_hides_learns_again_faster_than_a_retrained_one() -> None:
    data, config = noise_examples(), TrainConfig(learning_rate=1.0)
    hiding, retrained = memorise(data, torch.arange(60)), memorise(data, torch.arange(40, 60))
    hidden, fresh = (relearn(model, data, torch.arange(40), config, seed=0) for model in (hiding, retrained))
    assert hidden[0] == fresh[0] < 0.5, "neither classifies anything"
    assert hidden[-1] > 0.8
    assert fresh[-1] < 0.6


def test_all_models_of_a_seed_are_shown_the_same_examples() -> None:
    forget = torch.arange(100, 145)
    shown, rest = choose_shown(forget, 3, 64)
    assert len(shown) == 4
    assert sorted([*shown.tolist(), *rest.tolist()]) == forget.tolist()
    assert torch.equal(choose_shown(forget, 3, 64)[0], shown)
    assert not torch.equal(choose_shown(forget, 4, 64)[0], shown)
    assert len(choose_shown(forget, 3, 2)[0]) == 2
    with pytest.raises(ValueError, match="at least 2 forget examples"):
        choose_shown(forget[:1], 0, 64)


def test_a_finished_run_is_asked_for_it(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    output = shutil.copytree(finished_run, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (output / "run/models/0").iterdir()}
    without = json.loads((output / "run/table.json").read_text())
    assert run_command("run", "digits", *SMALL_OPTIONS, "--output", output, "--report.relearning").returncode == 0
    assert {path.name: path.read_bytes() for path in (output / "run/models/0").iterdir()} == before
    table = json.loads((output / "run/table.json").read_text())
    jsonschema.validate(table, json.loads(SCHEMA.read_text()))
    found = {row["method"]: row.pop("relearning") for row in table["rows"]}
    assert table == without, "nothing else changes"

    from ungan_dist.runs.plan import reopen_plan
    from ungan_dist.runs.record import read_run

    plan = reopen_plan(read_run(output / "run"))
    images, labels = torch.from_numpy(plan.source.images), torch.from_numpy(plan.source.labels).long()
    forget = plan.split.pool[plan.draws[0].forget]
    shown, rest = choose_shown(torch.from_numpy(forget), 0, plan.record.config.train.batch_size)
    inputs = (images.permute(0, 3, 1, 2) / 255 - plan.source.mean[0]) / plan.source.std[0]
    for name, measured in found.items():
        model = ungan_dist.load(output / "run", name)
        curve = steps_by_hand(model, inputs, labels, shown, rest, plan.record.config.train)
        assert measured["curve"] == pytest.approx(curve, abs=1 / len(rest) + 1e-6)
        assert measured["area"] == [pytest.approx(np.trapezoid(measured["curve"]) / NUM_STEPS, abs=1e-5)]
        assert measured["gap"] is None, "one seed has no interval"

    for text in ("table.md", "report.html"):
        assert "learns it again faster than Retrain" in (output / "run" / text).read_text()
    (original, *_) = csv.DictReader(io.StringIO(run_command("export", output / "run").stdout))
    assert float(original["relearning_area"]) == pytest.approx(found["original"]["area"][0], abs=1e-5)
    assert run_command("verify", output / "run").returncode == 0


def steps_by_hand(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    shown: torch.Tensor,
    rest: torch.Tensor,
    train: TrainConfig,
) -> list[float]:
    """SGD with momentum and weight decay, written out."""
    assert train.optimizer == "sgd"
    assert not train.nesterov
    parameters, rate = [one.requires_grad_() for one in model.eval().parameters()], train.learning_rate / 10
    momenta = [torch.zeros_like(one) for one in parameters]
    curve: list[float] = []
    for step in range(NUM_STEPS + 1):
        curve.append(float((model(inputs[rest]).argmax(1) == labels[rest]).float().mean()))
        if step < NUM_STEPS:
            loss = nn.functional.cross_entropy(model(inputs[shown]), labels[shown])
            with torch.no_grad():
                for one, momentum, slope in zip(
                    parameters, momenta, torch.autograd.grad(loss, parameters), strict=True
                ):
                    momentum.mul_(train.momentum).add_(slope + train.weight_decay * one)
                    one.sub_(rate * momentum)
    return curve


def test_the_interval_is_paired_with_retrain_by_seed() -> None:
    report = make_report()
    generator = np.random.default_rng(0)
    curves = {(item.method, item.seed): generator.random(21) for item in report.evidence}
    evidence = [dataclasses.replace(item, relearning=curves[item.method, item.seed]) for item in report.evidence]
    found = measure_relearning(evidence)
    seeds = sorted({item.seed for item in evidence})
    area = {key: float(((curve[1:] + curve[:-1]) / 2).mean()) for key, curve in curves.items()}
    differences = np.array([area["ungan", seed] - area["retrain", seed] for seed in seeds])
    half = student_t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / np.sqrt(len(seeds))
    gap = found["ungan"].gap
    assert len(seeds) >= 3
    assert gap is not None
    assert (gap.mean, gap.low, gap.high) == pytest.approx(
        (differences.mean(), differences.mean() - half, differences.mean() + half)
    )
    assert found["retrain"].gap is None
    assert measure_relearning(report.evidence) == {}


def test_one_forget_example_is_refused(tmp_path: Path) -> None:
    words = ("--split.forget-fraction", "0.005", "--report.relearning", "--output", tmp_path)
    assert_refused(run_command("run", "digits", *SMALL_OPTIONS, *words), "needs at least 2 forget examples")
