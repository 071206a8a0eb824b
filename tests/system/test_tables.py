"""Audits of tables of features: every method, U-LiRA, both engines, a model of one's own, and a purge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import InProcess, assert_refused, run_command
from torch import nn

import ungan_dist
from ungan_dist import store
from ungan_dist.commands.options import recipe_config
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import SourceConfig
from ungan_dist.config.methods import ROWS
from ungan_dist.config.training import ModelConfig, TrainConfig
from ungan_dist.data.examples import hold_examples
from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import load_source
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.models import build
from ungan_dist.training.train import train

pytestmark = pytest.mark.usefixtures("without_figures")
METHODS = [name for name, row in ROWS.items() if name != "unlearned" and row.field == name]


def write_purchases(path: Path, num_rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Write a table as Purchase-100: 600 binary features and 100 classes, each with its own habits."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_rows) % 100
    features = (rng.random((num_rows, 600)) < rng.beta(0.5, 1.5, (100, 600))[labels]).astype(np.int8)
    np.savez(path, features=features, labels=labels, id=np.char.add("customer-", np.arange(num_rows).astype(str)))
    return features, labels


def words_of(path: Path, *more: str) -> list[str]:
    return [
        *("custom", "--source.path", str(path), "--model.name", "mlp", "--model.widths", "16", "--train.epochs", "2"),
        *("--split.train", "160", "--split.shadow-pool", "160", "--split.unseen", "60", "--shadows.num-models", "8"),
        *("--split.forget-fraction", "0.2"),
        *("--attack.num-resamples", "100", "--attack.fnr", "0.1", "--output", str(path.parent / "out")),
        *("--execution.run-name", "run", "--execution.num-processes", "1", "--execution.progress", "none", *more),
    ]


def config_of(path: Path, *more: str) -> AuditConfig:
    return recipe_config(words_of(path, *more), command="run")


@pytest.fixture(scope="module")
def purchases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "purchases.npz"
    write_purchases(path)
    return path


@pytest.fixture(scope="module")
def audited(purchases: Path) -> Path:
    """The finished run of every method, and of U-LiRA."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        few = [
            "--ungan-bce.epochs",
            "1",
            "--ungan-bce.critic-steps",
            "2",
            "--ungan-bce.critic-pretraining",
            "2",
            "--ungan.epochs",
            "1",
            "--ungan-joint.epochs",
            "1",
            "--ungan-joint.critic-pretraining",
            "2",
        ]
        config = config_of(purchases, "--methods", ",".join(METHODS), "--attack.unlearned-shadows", "ssd", *few)
        audit(config, run_units=InProcess())
    return purchases.parent / "out/run"


@pytest.mark.process
def test_every_method_runs_on_a_table_and_every_attack_reads_it(audited: Path) -> None:
    report = json.loads((audited / "table.json").read_text())
    assert report["status"] == "COMPLETE"
    assert [row["method"] for row in report["rows"]] == METHODS
    assert {"lira", "rmia", "loss"} <= set(json.dumps(report["rows"]).replace('"', " ").replace("_", " ").split())
    assert run_command("verify", audited).stdout == "COMPLETE\n"


@pytest.mark.process
def test_stored_log_odds_are_those_of_the_rows_of_the_file(audited: Path, purchases: Path) -> None:
    """The rows are read by numpy, scaled by preprocess, and given to the saved original."""
    features = np.load(purchases)["features"]
    inputs = ungan_dist.preprocess(audited, features)
    plan = make_plan(config_of(purchases, "--methods", ",".join(METHODS)))
    candidates = features.astype(np.float64)
    deviations = candidates.std(0)
    expected = (candidates - candidates.mean(0)) / np.where(deviations > 0, deviations, 1)
    np.testing.assert_allclose(inputs, expected, rtol=1e-4, atol=1e-5)
    logits = ungan_dist.load(audited, "original")(inputs[plan.split.pool]).detach().double().softmax(1).numpy()
    own = logits[np.arange(len(logits)), plan.source.labels[plan.split.pool]]
    stored = np.load(audited / "log_odds/0/original.npy")
    np.testing.assert_allclose(stored[:, 0], np.log(own) - np.log1p(-own), rtol=1e-3, atol=1e-3)


@pytest.mark.process
def test_a_purge_removes_the_rows_wherever_they_are_prepared(audited: Path, purchases: Path, tmp_path: Path) -> None:
    """Other data in the same output are searched: the same rows, used without standardisation."""
    output = shutil.copytree(audited.parent, tmp_path / "out")
    source = load_source(SourceConfig(kind="arrays", path=str(purchases), standardise=False))
    row = source.images[make_plan(config_of(purchases)).split.pool[0]].tobytes()
    prepare(source, output)
    assert len([path for path in output.rglob("images.npy") if row in path.read_bytes()]) == 2
    assert run_command("purge", output / "run", "--shared").returncode == 0
    assert not [path for path in output.rglob("*") if path.is_file() and row in path.read_bytes()]
    page = (output / "run/report.html").read_text()
    assert "customer-" not in page
    assert "PURGED." in page
    assert store.read_json(output / "run/purged.json")["remaining"] == []


def test_stacked_shadow_models_learn_a_table_as_single_ones_do(purchases: Path) -> None:
    source = load_source(SourceConfig(kind="arrays", path=str(purchases)))
    data = hold_examples(
        source.images, source.labels, mean=source.mean, std=source.std, num_classes=100, device=torch.device("cpu")
    )
    config, widths = TrainConfig(epochs=2, batch_size=32, learning_rate=0.05), ModelConfig(name="mlp", widths=(8, 8))

    def make(seed: int) -> nn.Module:
        return build(widths, channels=600, num_classes=100, seed=seed, device=torch.device("cpu"), size=())

    sets = [torch.arange(100), torch.arange(100, 200)]
    alone, together = [make(0), make(1)], [make(0), make(1)]
    for seed, (model, members) in enumerate(zip(alone, sets, strict=True)):
        train(model, data, members, config, seed=seed)
    train_stacked(together, data, sets, config, seeds=[0, 1])
    for one, other in zip(alone, together, strict=True):
        for expected, found in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.process
def test_a_model_of_ones_own_receives_the_number_of_columns(purchases: Path, tmp_path: Path) -> None:
    for name, number in (("forget", 20), ("members", 250)):
        (tmp_path / f"{name}.txt").write_text("".join(f"customer-{place}\n" for place in range(number)))
    lists = ["--forget", str(tmp_path / "forget.txt"), "--members", str(tmp_path / "members.txt")]
    words = words_of(purchases, "--model", "user_models:perceptron", *lists)
    words[words.index("--model.name") : words.index("--train.epochs")] = []
    done = run_command("run", *words, "--attack.quick", "--methods", "original,retrain", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert ungan_dist.load(tmp_path / "run", "retrain", trust=True)(torch.zeros(2, 600)).shape == (2, 100)


def test_features_are_unlearned_from_python(purchases: Path) -> None:
    file = np.load(purchases)
    data = ungan_dist.ForgetData(
        features=file["features"], labels=file["labels"], forget=range(20), retain=range(20, 90), unseen=range(90, 140)
    )
    model = nn.Linear(600, 100)
    unlearned = ungan_dist.unlearn(model, data, "fine_tuning")
    assert not torch.equal(unlearned.weight, model.weight)
    both = ungan_dist.ForgetData(
        images=np.zeros((500, 4, 4, 1), np.uint8), features=file["features"], labels=file["labels"],
        forget=range(20), retain=range(20, 90), unseen=range(90, 140),
    )  # fmt: skip
    neither = ungan_dist.ForgetData(labels=[0, 1], forget=[0], retain=[1], unseen=[1])
    for wrong, word in [(both, "without images"), (neither, "neither images")]:
        with pytest.raises(ValueError, match=word):
            ungan_dist.unlearn(model, wrong, "ssd")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.name", "small_cnn"], ["small_cnn takes pictures", "--model.name mlp"]),
        (["--train.augment.flip"], ["train.augment changes pictures"]),
        (["--shadows.queries", "plain", "shift"], ["queries plain, shift move pictures", "--shadows.queries plain"]),
        (["--data.loader", "ffcv"], ["data.loader ffcv reads pictures"]),
        (["--report.show-examples"], ["show_examples shows pictures"]),
        (["--model.widths", "0"], ["model.widths"]),
    ],
)
def test_what_pictures_alone_have_is_refused_with_the_remedy(purchases: Path, options, words) -> None:
    assert_refused(run_command("run", *words_of(purchases, *options)), *words)
