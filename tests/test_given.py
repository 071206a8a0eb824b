"""Bring your own: model, weights, data, forget list; and every way in which they do not fit."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import given_models
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from ungan_dist.commands.options import recipe_config
from ungan_dist.config import AuditConfig
from ungan_dist.errors import ConfigError
from ungan_dist.given import MEMBERS_SHARE, given_sets
from ungan_dist.identity import content_hash, identity
from ungan_dist.launch import audit
from ungan_dist.plan import make_plan
from ungan_dist.recipes import cifar10_small, digits
from ungan_dist.runs import load
from ungan_dist.sources import load_source

NUM_CLASSES = 20
PER_CLASS = 16


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 classes of 64-pixel pictures, each with a colour of its own under noise."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in range(NUM_CLASSES):
        (root / f"class{label:02}").mkdir()
        colour = rng.integers(0, 256, 3)
        for number in range(PER_CLASS):
            noisy = np.clip(colour + rng.normal(scale=40, size=(64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"class{label:02}/{number:02}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "original.safetensors"
    safetensors.torch.save_file(given_models.linear(NUM_CLASSES, 3).state_dict(), path)
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Two examples a class to forget, ten a class that the model was trained on."""
    indices = np.arange(NUM_CLASSES * PER_CLASS)
    (tmp_path / "forget.csv").write_text("index\n" + "\n".join(map(str, indices[indices % PER_CLASS < 2])) + "\n")
    np.save(tmp_path / "members.npy", indices[indices % PER_CLASS < 10])
    return tmp_path


def options(pictures: Path, lists: Path, *more: str, model: str = "given_models:linear") -> list[str]:
    return [
        *("custom", "--model", model, "--source.path", str(pictures), "--forget", str(lists / "forget.csv")),
        *("--attack.num-resamples", "100", "--attack.fnr", "0.1", "--train.epochs", "1", "--shadows.num-models", "4"),
        *("--shadows.unit-size", "2", "--output", str(lists / "out"), "--execution.run-name", "run"),
        *("--execution.num-processes", "2", "--execution.progress", "none", *more),
    ]


def configured(*arguments: str) -> AuditConfig:
    return recipe_config(list(arguments), command="run")


def test_todays_recipes_keep_their_names_and_units() -> None:
    """Fields for what users bring must not orphan the fleets that there are."""
    assert content_hash(identity(digits())) == "4e1d8267b9748d8d70bcf3a555b34c17f3fc2272bc9b34940df9584d7a54a9ed"
    assert content_hash(identity(cifar10_small())) == "e35364fb53626f38c5b8119e80b6b7344434fbd7df35dc073922a65e2342a2bf"


def test_a_users_model_data_and_forget_list_go_through(pictures: Path, lists: Path) -> None:
    config = configured(*options(pictures, lists, "--methods", "original,retrain,cf_k"))
    report = audit(config)
    assert report.status == "COMPLETE"
    assert report.sizes["forget"] == 2 * NUM_CLASSES
    assert report.sizes["train"] == round(MEMBERS_SHARE * NUM_CLASSES * PER_CLASS)
    assert isinstance(load(lists / "out/run", "cf_k"), torch.nn.Sequential)


def test_given_weights_are_the_original_and_what_was_assumed_is_said(
    pictures: Path, lists: Path, weights: Path
) -> None:
    more = ("--original", str(weights), "--members", str(lists / "members.npy"), "--methods", "original")
    report = audit(configured(*options(pictures, lists, *more)))
    loaded = load(lists / "out/run", "original").state_dict()
    for name, value in safetensors.torch.load_file(weights).items():
        assert torch.equal(loaded[name], value)
    assert report.sizes["train"] == 10 * NUM_CLASSES
    text = (lists / "out/run/table.md").read_text()
    assert "Shadow models were trained by this run's recipe" in text
    assert "fewer than the original" in text


def test_the_sets_are_what_the_lists_say(pictures: Path, lists: Path, weights: Path) -> None:
    more = ("--original", str(weights), "--members", str(lists / "members.npy"))
    config = configured(*options(pictures, lists, *more))
    source = load_source(config.source)
    sets = given_sets(config, source)
    pool, draw = sets.split.pool, sets.draw
    assert (pool[draw.forget] % PER_CLASS < 2).all()
    assert sorted(pool[draw.train]) == np.load(lists / "members.npy").tolist()
    parts = [pool[draw.retain], pool[draw.forget], pool[draw.never_seen], sets.split.unseen, sets.split.test]
    together = np.concatenate(parts)
    # at most one example is left over, so that the pool can be halved
    assert len(np.unique(together)) == len(together) >= len(source.images) - 1
    assert len(pool) % 2 == 0


def test_ids_name_what_indices_name(pictures: Path, lists: Path) -> None:
    by_index = given_sets(
        configured(*options(pictures, lists)), load_source(configured(*options(pictures, lists)).source)
    )
    ids = [f"class{label:02}/{number:02}.png" for label in range(NUM_CLASSES) for number in range(2)]
    (lists / "forget.csv").write_text("\n".join(ids))
    by_id = given_sets(configured(*options(pictures, lists)), load_source(configured(*options(pictures, lists)).source))
    assert by_id.given_hash == by_index.given_hash


def test_a_mobilenet_unlearned_elsewhere_is_audited_and_the_next_request_trains_no_shadow(
    pictures: Path, lists: Path
) -> None:
    torch.manual_seed(1)
    for name in ("original", "unlearned"):
        safetensors.torch.save_file(given_models.mobile(NUM_CLASSES).state_dict(), lists / f"{name}.safetensors")
    common = options(pictures, lists, model="given_models:mobile")[1:]
    common += ["--original", str(lists / "original.safetensors"), "--members", str(lists / "members.npy")]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}

    def audited(*more: str) -> None:
        command = [sys.executable, "-m", "ungan_dist", "audit", *common, *more]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert "Unlearned" in done.stdout

    audited("--unlearned", str(lists / "unlearned.safetensors"))
    rows = {row["method"]: row for row in json.loads((lists / "out/run/table.json").read_text())["rows"]}
    assert set(rows) == {"original", "unlearned"}
    fleet = {path: path.stat().st_mtime_ns for path in (lists / "out/shadows").iterdir()}
    assert len(fleet) == 4
    # another forget request on the same members
    (lists / "forget.csv").write_text("\n".join(str(2 + PER_CLASS * label) for label in range(NUM_CLASSES)))
    audited("--unlearned", str(lists / "unlearned.safetensors"), "--execution.run-name", "next")
    assert {path: path.stat().st_mtime_ns for path in (lists / "out/shadows").iterdir()} == fleet


def _write(name: str, text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return []

    return prepare


class _Payload:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("/tmp/ungan-dist-payload",)


def _weights(folder: Path, state: object, name: str = "w.pt") -> list[str]:
    torch.save(state, folder / name)
    return ["--original", str(folder / name), "--members", str(folder / "members.npy")]


def _pickle(folder: Path) -> list[str]:
    (folder / "w.pt").write_bytes(pickle.dumps(_Payload()))
    return ["--original", str(folder / "w.pt"), "--members", str(folder / "members.npy")]


LAST = NUM_CLASSES * PER_CLASS - 1
BAD = {
    "a factory that raises": (lambda folder: ["--model", "given_models:raising"], ["raising", "out of ideas"]),
    "a factory that returns no module": (lambda folder: ["--model", "given_models:no_module"], ["nn.Module", "int"]),
    "a factory that is not there": (lambda folder: ["--model", "given_models:absent"], ["absent"]),
    "a module that is not there": (lambda folder: ["--model", "no_such_module:f"], ["no_such_module"]),
    "no function": (lambda folder: ["--model", "given_models"], ["module:function"]),
    "too few outputs": (lambda folder: ["--model", "given_models:too_few_outputs"], ["19", "20 classes"]),
    "weights of another architecture": (
        lambda folder: _weights(folder, given_models.linear(3, 3).state_dict()),
        ["w.pt", "Sequential"],
    ),
    "a pickle inside": (_pickle, ["w.pt", "nothing in it was run"]),
    "no such weights": (
        lambda folder: ["--original", str(folder / "absent.safetensors")],
        ["absent.safetensors", "does not exist"],
    ),
    "an index out of range": (_write("forget.csv", f"3\n{LAST + 1}\n"), [str(LAST + 1), f"0 … {LAST}"]),
    "a negative index": (_write("forget.csv", "-1"), ["-1", f"0 … {LAST}"]),
    "a repeated example": (_write("forget.csv", "3\n4\n3\n"), ["example 3", "once"]),
    "an empty list": (_write("forget.csv", "index\n"), ["lists no example"]),
    "everything": (_write("forget.csv", "\n".join(map(str, range(LAST + 1)))), ["to retain", "shorten the list"]),
    "an id that the data lacks": (_write("forget.csv", "class00/99.png"), ["class00/99.png", "class00/00.png"]),
    "a whole class": (
        _write("forget.csv", "\n".join(map(str, range(PER_CLASS)))),
        ["every example of class 'class00'"],
    ),
    "an example that was not trained on": (
        lambda folder: [*_write("forget.csv", "15")(folder), "--members", str(folder / "members.npy")],
        ["example 15 was not trained on"],
    ),
    "a model trained on everything": (
        lambda folder: _weights(folder, given_models.linear(NUM_CLASSES, 3).state_dict())[:2],
        ["never seen", "given.members"],
    ),
    "unlearned without its weights": (lambda folder: ["--methods", "original,unlearned"], ["given.unlearned"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    name: str, pictures: Path, lists: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, words = BAD[name]
    # what a config refuses by itself ends the option parser, which has printed why
    with pytest.raises((ConfigError, SystemExit)) as refused:
        make_plan(configured(*options(pictures, lists), *prepare(lists)))
    error = refused.value
    said = capsys.readouterr().err if isinstance(error, SystemExit) else str(error)
    assert (error.code if isinstance(error, SystemExit) else error.exit_code) == 2
    for word in words:
        assert word in said
    assert not (lists / "out").exists()
    assert not Path("/tmp/ungan-dist-payload").exists()


def test_pictures_of_mixed_sizes_are_refused(pictures: Path, lists: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    for label in range(2):
        (mixed / str(label)).mkdir(parents=True)
        Image.new("RGB", (64 + label, 64)).save(mixed / f"{label}/a.png")
    with pytest.raises(ConfigError, match="64"):
        make_plan(configured(*options(mixed, lists)))


def test_labels_as_strings_are_refused(lists: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [{"bytes": b"", "path": ""}], "label": ["cat"]}), tmp_path / "data.parquet")
    with pytest.raises(ConfigError, match="labels must be integers"):
        make_plan(configured(*options(tmp_path / "data.parquet", lists)))
