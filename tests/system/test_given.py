"""Bring your own: model, weights, data, forget list; and every way in which they do not fit."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import user_models
from in_process import InProcess
from PIL import Image

from ungan_dist.cli import main
from ungan_dist.commands.options import recipe_config
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import SourceConfig
from ungan_dist.config.identity import content_hash, identity, run_hash
from ungan_dist.config.recipes import cifar10_small, custom, digits
from ungan_dist.data.list_split import MEMBER_FRACTION
from ungan_dist.data.lists import read_list
from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import load_source
from ungan_dist.errors import ConfigError
from ungan_dist.loading import load
from ungan_dist.runs.given import given_sets
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.shadows import evaluate_shadows, train_shadows
from ungan_dist.runs.targets import train_target
from ungan_dist.runs.upkeep.purge import plan_purge
from ungan_dist.training.weights import load_weights, weights_bytes

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
    safetensors.torch.save_file(user_models.linear(NUM_CLASSES, 3).state_dict(), path)
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Two examples a class to forget, ten a class that the model was trained on."""
    indices = np.arange(NUM_CLASSES * PER_CLASS)
    (tmp_path / "forget.csv").write_text("index\n" + "\n".join(map(str, indices[indices % PER_CLASS < 2])) + "\n")
    np.save(tmp_path / "members.npy", indices[indices % PER_CLASS < 10])
    return tmp_path


def options(pictures: Path, lists: Path, *more: str, model: str = "user_models:linear") -> list[str]:
    return [
        *("custom", "--model", model, "--source.path", str(pictures), "--forget", str(lists / "forget.csv")),
        *("--attack.num-resamples", "100", "--attack.fnr", "0.1", "--train.epochs", "1", "--shadows.num-models", "4"),
        *("--shadows.unit-size", "2", "--output", str(lists / "out"), "--execution.run-name", "run"),
        *("--execution.num-processes", "1", "--execution.progress", "none", *more),
    ]


def configured(*arguments: str) -> AuditConfig:
    return recipe_config(list(arguments), command="run")


def test_recipes_keep_their_names_and_units() -> None:
    """Fields for what users bring must not orphan the fleets that there were before them."""
    assert content_hash(identity(digits())) == "4e1d8267b9748d8d70bcf3a555b34c17f3fc2272bc9b34940df9584d7a54a9ed"
    assert content_hash(identity(cifar10_small())) == "e35364fb53626f38c5b8119e80b6b7344434fbd7df35dc073922a65e2342a2bf"
    assert run_hash(cifar10_small(), "data") == "17ba67309cbab5d3cc38a53ace33659d92807cb706ac2775acb6b8885b982601"
    plan = make_plan(digits(), resolved={"device": "cpu", "engine": "serial", "loader": "resident"})
    assert plan.record.run_hash == "b8eddf0084e33108003aad7247cacb842c19010c320416a32b6a9749af3a1632"
    assert [plan.shadows[0].id, plan.shadows[-1].id] == [
        "16fc57f27974681df03531b61fbfbead",
        "369e2cd35a00923db400e1be02012aeb",
    ]
    assert [plan.originals[0].id, plan.unlearning[0].id, plan.unlearning[-1].id] == [
        "e8012f97b4451529ebcdc1f70684b15831558750577f186d709a94aa5ffe2a9e",
        "91c8442bc68c9ea0ccd83114d4c2c8e899346d659a7b023be29f19f7ff963cc6",
        "acecd61ee61fcde791d13c0247e808943b191439a53db60d8f2a30409e609922",
    ]


PACKAGE = """
from torchvision.models import mobilenet_v3_small


def build(num_classes):
    return mobilenet_v3_small(weights=None, num_classes=num_classes)
"""


@pytest.fixture
def project(lists: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's own folder, the current one: a package of theirs, weights of theirs, lists."""
    (lists / "mypackage").mkdir()
    (lists / "mypackage/__init__.py").touch()
    (lists / "mypackage/models.py").write_text(PACKAGE)
    for seed, name in enumerate(("weights", "unlearned")):
        torch.manual_seed(seed)
        safetensors.torch.save_file(user_models.mobile(NUM_CLASSES).state_dict(), lists / f"{name}.safetensors")
    monkeypatch.chdir(lists)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield lists
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def command(*arguments: str) -> int:
    """What a command line ends with; signals are handled as before."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)


SHORT = [
    *("--attack.num-resamples", "100", "--attack.fnr", "0.1", "--train.epochs", "1", "--shadows.num-models", "4"),
    *("--shadows.unit-size", "4", "--output", "out", "--execution.num-processes", "1", "--execution.progress", "none"),
]


@pytest.mark.process
@pytest.mark.timeout(240)
def test_a_mobilenet_goes_through_custom_and_through_the_audit_of_what_was_unlearned_elsewhere(
    pictures: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = ["--model", "mypackage.models:build", "--original", "weights.safetensors"]
    brought += ["--source.path", str(pictures), "--forget", "forget.csv", "--members", "members.npy", *SHORT]
    ours = ["run", "custom", *brought, "--methods", "original,fine_tuning", "--fine-tuning.epochs", "1"]
    assert command(*ours, "--execution.run-name", "ours") == 0
    unlearned = load("out/ours", "fine_tuning").state_dict()
    original = safetensors.torch.load_file("weights.safetensors")
    assert unlearned.keys() == original.keys()
    assert not torch.equal(unlearned["classifier.3.weight"], original["classifier.3.weight"])
    text = Path("out/ours/table.md").read_text()
    assert "The weights of original were given" in text
    assert "not by the code behind it" in text

    fleet = {path: path.stat().st_mtime_ns for path in Path("out/shadows").iterdir()}
    elsewhere = ["audit", "--unlearned", "unlearned.safetensors", *brought, "--execution.run-name", "elsewhere"]
    assert command(*elsewhere) == 0
    assert "Unlearned" in (said := capsys.readouterr().out), said
    table = json.loads(Path("out/elsewhere/table.json").read_text())
    assert [row["method"] for row in table["rows"]] == ["original", "unlearned"]
    for name, value in load("out/elsewhere", "unlearned").state_dict().items():
        assert torch.equal(value, safetensors.torch.load_file("unlearned.safetensors")[name])
    # how long unlearning took there is not known here
    assert set(json.loads(Path("out/elsewhere/timings.json").read_text())["methods"]) == {"original"}
    # the audit of another model, and the row of ours beside it, share the fleet
    assert {path: path.stat().st_mtime_ns for path in Path("out/shadows").iterdir()} == fleet


def parquet(path: Path, ids: list[str]) -> None:
    """Grey noise of 8 × 8 pixels in 3 classes, with a column of ids."""
    rng = np.random.default_rng(0)
    pictures: list[dict[str, object]] = []
    for _ in ids:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(file, "PNG")
        pictures.append({"bytes": file.getvalue(), "path": None})
    labels = [position % 3 for position in range(len(ids))]
    pq.write_table(pa.table({"image": pictures, "label": labels, "id": ids}), path)


def test_parquet_with_ids_and_a_model_trained_here(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [f"person-{number}" for number in range(120)]
    parquet(Path("data.parquet"), ids)
    Path("forget.csv").write_text("id,when\n" + "".join(f"{id},2024-01-01\n" for id in ids[:6]))
    Path("mypackage/models.py").write_text("from user_models import linear as build")
    arguments = ["custom", "--model", "mypackage.models:build", "--source.path", "data.parquet"]
    arguments += ["--forget=forget.csv", "--methods", "original,retrain,cf_k", *SHORT, "--execution.run-name", "run"]
    assert command("run", *arguments) == 0
    table = json.loads(Path("out/run/table.json").read_text())
    assert table["status"] == "COMPLETE"
    assert table["sizes"]["forget"] == 6
    assert table["sizes"]["train"] == round(MEMBER_FRACTION * 120)
    assert isinstance(load("out/run", "cf_k"), torch.nn.Sequential)
    assert command("verify", "out/run") == 0
    assert any(f"given as forget, {project}/forget.csv" in note for note in plan_purge(Path("out/run")).notes)
    Path("forget.csv").write_text("person-7\n")
    assert command("verify", "out/run") == 1
    assert "given weights or lists have changed since the run was made" in capsys.readouterr().err
    table = Path("out/run/table.json").read_bytes()
    assert command("report", "out/run") == 2
    said = capsys.readouterr().err
    assert f"given weights or lists have changed since the run was made ({project}/forget.csv): restore it" in said
    Path("forget.csv").unlink()
    assert command("report", "out/run") == 2
    assert "forget.csv does not exist" in (said := capsys.readouterr().err)
    assert "A report needs the inputs of the run: restore them" in said
    assert Path("out/run/table.json").read_bytes() == table
    Path("mypackage/models.py").unlink()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]
    with pytest.raises(ConfigError, match=r"mypackage.models"):
        load("out/run", "cf_k")


def test_without_members_a_given_model_was_trained_on_all_but_the_official_test_examples(project: Path) -> None:
    Path("data").mkdir()
    parquet(Path("data/train.parquet"), [f"train-{number}" for number in range(120)])
    parquet(Path("data/test.parquet"), [f"test-{number}" for number in range(60)])
    Path("forget.csv").write_text("train-3\ntrain-4")
    config = custom(data="data", forget="forget.csv", original="weights.safetensors")
    source = load_source(config.source)
    sets = given_sets(config, source)
    pool, draw = sets.split.pool, sets.draw
    assert pool[draw.train].tolist() == list(range(120))
    assert pool[draw.forget].tolist() == [3, 4]
    outside = np.concatenate([pool[draw.non_members], sets.split.unseen, sets.split.test])
    assert sorted(outside) == list(range(120, 180))
    assert len(draw.non_members) == 40
    assert any("Only 40 examples were never seen, 120 were trained on" in note for note in sets.notes)


def test_pixels_are_normalised_as_given_weights_were_trained(project: Path) -> None:
    parquet(Path("data.parquet"), [str(number) for number in range(30)])
    own, told = (
        SourceConfig(kind="auto", path="data.parquet", **more) for more in ({}, {"mean": (0.5,), "std": (2.0,)})
    )
    assert (load_source(told).mean, load_source(told).std) == ((0.5,), (2.0,))
    assert load_source(own).content_hash != load_source(told).content_hash
    base = custom(data="data.parquet")
    assert "mean" not in identity(base)["source"]
    assert identity(replace(base, source=told))["source"]["mean"] == [0.5]
    with pytest.raises(ValueError, match=r"each of the 1 channels"):
        load_source(replace(told, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="go together"):
        SourceConfig(mean=(0.5,))


def test_numbers_are_ids_where_ids_are_numbers(project: Path) -> None:
    """Read as an index, a number that is no id would name somebody else."""
    parquet(Path("data.parquet"), [str(1000 + number) for number in range(120)])
    source = load_source(SourceConfig(kind="auto", path="data.parquet"))
    np.save("ids.npy", np.array([1003, 1001]))
    assert read_list(Path("ids.npy"), source).tolist() == [1, 3]
    Path("ids.txt").write_text("5\n")
    with pytest.raises(ValueError, match="line 1: the data has no example '5'"):
        read_list(Path("ids.txt"), source)


def test_an_id_of_two_examples_and_a_mixture_are_refused(project: Path) -> None:
    parquet(Path("data.parquet"), ["twin", "twin", *(f"one-{number}" for number in range(100))])
    source = load_source(SourceConfig(kind="auto", path="data.parquet"))
    Path("ids.txt").write_text("one-3\ntwin\n")
    with pytest.raises(ValueError, match="line 2: more than one example of the data has the id 'twin'"):
        read_list(Path("ids.txt"), source)
    Path("ids.txt").write_text("one-3\n4\n")
    with pytest.raises(ValueError, match=r"line 2: the data has no example '4'.*ids or indices, not both"):
        read_list(Path("ids.txt"), source)
    Path("ids.txt").write_text("3\n4\n")
    assert read_list(Path("ids.txt"), source).tolist() == [3, 4]


def test_draws_inside_a_users_layers_repeat(pictures: Path, lists: Path) -> None:
    """Dropout draws from the global generator: a unit that is tried again must give the same bits."""
    more = ("--methods", "original,fine_tuning", "--fine-tuning.epochs", "1")
    plan = make_plan(configured(*options(pictures, lists, *more, model="user_models:dropping")))
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
    undropped = make_plan(configured(*options(pictures, lists, *more)))
    unit = undropped.shadows[0]
    assert not np.array_equal(evaluate_shadows(unit, train_shadows(unit)), log_odds[0])


def test_weights_that_changed_since_the_plan_are_not_taken_for_those_that_were_named(
    pictures: Path, lists: Path, weights: Path
) -> None:
    own = lists / "w.safetensors"
    own.write_bytes(weights.read_bytes())
    plan = make_plan(configured(*options(pictures, lists, "--original", str(own), "--members", f"{lists}/members.npy")))
    prepare(plan.source, lists / "out")
    safetensors.torch.save_file(user_models.linear(NUM_CLASSES, 3).state_dict(), own)
    with pytest.raises(ValueError, match="has changed since the run began"):
        train_target(plan.originals[0])


def test_weights_that_two_layers_share_are_written_and_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    (tmp_path / "tied.safetensors").write_bytes(weights_bytes(model))
    again = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    again[1].weight = again[0].weight
    load_weights(again, tmp_path / "tied.safetensors")
    assert torch.equal(again[1].weight, model[0].weight)


def test_given_weights_are_the_original_and_what_was_assumed_is_said(
    pictures: Path, lists: Path, weights: Path
) -> None:
    more = ("--original", str(weights), "--members", str(lists / "members.npy"), "--methods", "original")
    report = audit(configured(*options(pictures, lists, *more)), run_units=InProcess())
    loaded = load(lists / "out/run", "original").state_dict()
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
        configured(*options(pictures, lists, *more), "--execution.run-name", "next"), run_units=InProcess()
    )
    assert following.status == "COMPLETE"
    assert following.sizes["forget"] == NUM_CLASSES
    assert following.run_hash != report.run_hash
    assert {path: path.stat().st_mtime_ns for path in (lists / "out/shadows").iterdir()} == fleet


def test_the_sets_are_what_the_lists_say(pictures: Path, lists: Path, weights: Path) -> None:
    more = ("--original", str(weights), "--members", str(lists / "members.npy"))
    config = configured(*options(pictures, lists, *more))
    source = load_source(config.source)
    sets = given_sets(config, source)
    pool, draw = sets.split.pool, sets.draw
    assert (pool[draw.forget] % PER_CLASS < 2).all()
    assert sorted(pool[draw.train]) == np.load(lists / "members.npy").tolist()
    parts = [pool[draw.retain], pool[draw.forget], pool[draw.non_members], sets.split.unseen, sets.split.test]
    together = np.concatenate(parts)
    # at most one example is left over, so that the pool can be halved
    assert len(np.unique(together)) == len(together) >= len(source.images) - 1
    assert len(pool) % 2 == 0


def test_the_next_list_inside_of_the_pool_trains_no_shadow_model(pictures: Path, lists: Path) -> None:
    """Although neither weights nor members are given."""

    def shadows(indices: list[int]) -> tuple[list[str], list[str]]:
        (lists / "forget.csv").write_text("\n".join(map(str, indices)))
        plan = make_plan(configured(*options(pictures, lists)))
        return [unit.id for unit in plan.shadows], plan.notes

    (lists / "forget.csv").write_text("0")
    pool = make_plan(configured(*options(pictures, lists))).split.pool
    stranger = int(np.setdiff1d(np.arange(NUM_CLASSES * PER_CLASS), pool)[0])
    first, notes = shadows(pool[:5].tolist())
    assert not any("outside of the fixed pool" in note for note in notes)
    assert shadows(pool[3::9].tolist())[0] == first
    other, notes = shadows([*pool[:5].tolist(), stranger])
    assert other != first
    assert any("1 of the 6 listed examples lie outside of the fixed pool" in note for note in notes)


def test_a_run_is_known_by_the_content_of_given_weights(pictures: Path, lists: Path, weights: Path) -> None:
    def given_hash(content: bytes) -> str:
        (lists / "u.safetensors").write_bytes(content)
        more = (
            "--original",
            str(weights),
            "--members",
            f"{lists}/members.npy",
            "--unlearned",
            f"{lists}/u.safetensors",
        )
        config = configured(*options(pictures, lists, *more))
        return given_sets(config, load_source(config.source)).given_hash

    same, other = weights.read_bytes(), safetensors.torch.save(user_models.linear(NUM_CLASSES, 3).state_dict())
    assert given_hash(same) == given_hash(same) != given_hash(other)


def test_ids_name_what_indices_name(pictures: Path, lists: Path) -> None:
    by_index = given_sets(
        configured(*options(pictures, lists)), load_source(configured(*options(pictures, lists)).source)
    )
    ids = [f"class{label:02}/{number:02}.png" for label in range(NUM_CLASSES) for number in range(2)]
    (lists / "forget.csv").write_text("\n".join(ids))
    by_id = given_sets(configured(*options(pictures, lists)), load_source(configured(*options(pictures, lists)).source))
    assert by_id.given_hash == by_index.given_hash


def test_the_recipe_from_python_is_that_of_the_command_line() -> None:
    brought = {"model": "m:f", "original": "o", "forget": "f", "members": "m", "unlearned": "u"}
    words = [word for name, value in brought.items() for word in (f"--{name}", value)]
    config = configured("custom", *words, "--source.path", "d", "--methods", "original,unlearned")
    assert custom(data="d", **brought) == config


def _write(name: str, text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return []

    return prepare


PAYLOAD = str(Path(tempfile.gettempdir()) / "ungan-dist-payload")


class _Payload:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (PAYLOAD,)


def _weights(folder: Path, state: object, name: str = "w.pt") -> list[str]:
    torch.save(state, folder / name)
    return ["--original", str(folder / name), "--members", str(folder / "members.npy")]


def _pickle(folder: Path) -> list[str]:
    (folder / "w.pt").write_bytes(pickle.dumps(_Payload()))
    return ["--original", str(folder / "w.pt"), "--members", str(folder / "members.npy")]


LAST = NUM_CLASSES * PER_CLASS - 1
BAD = {
    "a factory that raises": (lambda folder: ["--model", "user_models:raising"], ["raising", "out of ideas"]),
    "a factory that returns no module": (lambda folder: ["--model", "user_models:no_module"], ["nn.Module", "int"]),
    "a factory that is not there": (lambda folder: ["--model", "user_models:absent"], ["absent"]),
    "a module that is not there": (lambda folder: ["--model", "no_such_module:f"], ["no_such_module"]),
    "no function": (lambda folder: ["--model", "user_models"], ["module:function"]),
    "too few outputs": (lambda folder: ["--model", "user_models:too_few_outputs"], ["19", "20 classes"]),
    "more than logits": (lambda folder: ["--model", "user_models:with_features"], ["tuple", "logits [batch, 20]"]),
    "a model that takes other pictures": (
        lambda folder: ["--model", "user_models:for_eight_pixels"],
        ["(3, 64, 64)", "cannot take images"],
    ),
    "weights that give no numbers": (
        lambda folder: _weights(
            folder,
            {name: value * torch.nan for name, value in user_models.linear(NUM_CLASSES, 3).state_dict().items()},
        ),
        ["w.pt", "not finite"],
    ),
    "seeds that all have one model": (
        lambda folder: [*_weights(folder, {}), "--num-seeds", "3"],
        ["over 3 seeds", "no width"],
    ),
    "weights of another architecture": (
        lambda folder: _weights(folder, user_models.linear(3, 3).state_dict()),
        ["w.pt", "Sequential"],
    ),
    "a pickle inside": (_pickle, ["w.pt", "none of its code was run"]),
    "no such weights": (
        lambda folder: ["--original", str(folder / "absent.safetensors")],
        ["absent.safetensors", "does not exist"],
    ),
    "an index out of range": (_write("forget.csv", f"3\n{LAST + 1}\n"), [str(LAST + 1), f"0 … {LAST}"]),
    "a negative index": (_write("forget.csv", "-1"), ["-1", f"0 … {LAST}"]),
    "a number only to Python": (_write("forget.csv", "1_0"), ["no example '1_0'"]),
    "a repeated example": (_write("forget.csv", "3\n4\n3\n"), ["example 3", "once"]),
    "an empty list": (_write("forget.csv", "index\n"), ["lists no example"]),
    "everything": (_write("forget.csv", "\n".join(map(str, range(LAST + 1)))), ["to retain", "shorten the list"]),
    "an id that the data lacks": (_write("forget.csv", "class00/99.png"), ["class00/99.png", "class00/00.png"]),
    "a whole class": (
        _write("forget.csv", "\n".join(map(str, range(PER_CLASS)))),
        ["every training example of class 'class00'"],
    ),
    "an example that was not trained on": (
        lambda folder: [*_write("forget.csv", "15")(folder), "--members", str(folder / "members.npy")],
        ["example 15 was not trained on"],
    ),
    "a model trained on everything": (
        lambda folder: _weights(folder, user_models.linear(NUM_CLASSES, 3).state_dict())[:2],
        ["never seen", "--members"],
    ),
    "unlearned without its weights": (lambda folder: ["--methods", "original,unlearned"], ["by --unlearned"]),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    name: str, pictures: Path, lists: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_files, words = BAD[name]
    changes = prepare_files(lists)
    base = options(pictures, lists)
    # an option may not be given twice
    arguments = [*(base[:1] + base[3:] if "--model" in changes else base), *changes]
    before = everything_in(lists)
    assert command("run", *arguments) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for word in words:
        assert word in said
    assert everything_in(lists) == before
    assert not Path(PAYLOAD).exists()


def everything_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_pictures_of_mixed_sizes_are_refused(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = tmp_path / "mixed"
    for label in range(2):
        (mixed / str(label)).mkdir(parents=True)
        Image.new("RGB", (64 + label, 64)).save(mixed / f"{label}/a.png")
    assert command("run", *options(mixed, lists)) == 2
    said = capsys.readouterr().err
    assert "is 65×64 pixels" in said
    assert "resize all pictures to one size" in said
    assert not (lists / "out").exists()


def test_labels_as_strings_are_refused(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"", "path": ""}], "label": ["cat"]}), tmp_path / "data.parquet")
    assert command("run", *options(tmp_path / "data.parquet", lists)) == 2
    said = capsys.readouterr().err
    assert "column label holds string" in said
    assert "labels must be integers from 0 on" in said
    assert not (lists / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--unlearned FILE"]),
        (["--unlearned", "w.safetensors", "--methods", "original,retrain"], ["original,retrain", "add it"]),
        (["--unlearned", "w.safetensors"], ["by --members", "give --original"]),
    ],
)
def test_an_audit_that_would_audit_something_else_is_refused(
    arguments: list[str], words: list[str], pictures: Path, lists: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = ["--members", str(lists / "members.npy")] if "--methods" in arguments else []
    assert command("audit", *options(pictures, lists, *members)[1:], *arguments) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for word in words:
        assert word in said
    assert not (lists / "out").exists()
