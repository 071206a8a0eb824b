"""Forget A, then B from the result: the audit of A is repeated, and finds A where a method has learnt it again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from custom_audit import write_noise_parquet
from in_process import assert_refused, run_command
from sklearn.metrics import roc_auc_score

import ungan_dist
from ungan_dist.data.sources.source import load_source
from ungan_dist.data.split import draw_sets, make_split
from ungan_dist.runs.given import GivenSets
from ungan_dist.runs.plan import reopen_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.progress import silent
from ungan_dist.runs.record import read_run
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.sequence import find_sets
from ungan_dist.runs.units import execute

pytestmark = pytest.mark.usefixtures("without_figures")
NUM_EXAMPLES = 300
SCHEMA = Path(ungan_dist.__file__).parent / "report/table.schema.json"
METHOD = """
import json
from pathlib import Path

from torch.optim import SGD


def learn_again(request):
    \"\"\"Train on what the run before has forgotten, too.\"\"\"
    earlier = request.retain.new_tensor(json.loads(Path("earlier.json").read_text())[request.seed])
    if len(request.data.labels) <= earlier.max():  # a rehearsal has a few examples
        earlier = request.retain
    model = request.copy_original()
    optimizer = SGD(model.parameters(), lr=0.5)
    for epoch in range(40):
        request.train_pass(model.train(), earlier, optimizer, epoch=epoch, purpose="again")
    return model.eval()
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a first run of three seeds, whose models memorise their noise."""
    project = tmp_path_factory.mktemp("project")
    write_noise_parquet(project / "noise.parquet", [f"x{number}" for number in range(NUM_EXAMPLES)])
    (project / "again.py").write_text(METHOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        prepare(project, patch)
        done = run("--methods", "original,retrain,fine_tuning", "--execution.run-name", "first")
    assert done.returncode == 0, done.stderr
    return project


def prepare(project: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(project)
    patch.setattr(sys, "path", [*sys.path])
    patch.setattr(sys, "dont_write_bytecode", True)
    patch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))


@pytest.fixture
def project(first: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    copy = shutil.copytree(first, tmp_path / "project")
    prepare(copy, monkeypatch)
    yield copy
    sys.modules.pop("again", None)


def run(*more: str, source: str = "noise.parquet") -> Any:
    # a forget set of another rule has no fraction
    fraction = () if "--split.forget" in more else ("--split.forget-fraction", "0.15")
    options = [
        *("--model", "user_models:for_eight_pixels", "--source.path", source, "--num-seeds", "3"),
        *(*fraction, "--train.epochs", "20", "--train.learning-rate", "0.5"),
        *("--shadows.num-models", "8", "--attack.num-resamples", "100", "--attack.fnr", "0.1", "--output", "out"),
        *("--execution.num-processes", "1", "--execution.progress", "none"),
    ]
    return run_command("run", "custom", *options, *more)


def read_table(name: str) -> dict[str, Any]:
    return json.loads(Path("out", name, "table.json").read_text())


def list_shadows() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path("out/shadows").glob("*.json")}


def sets_of(name: str) -> GivenSets:
    record = read_run(Path("out", name))
    sets = find_sets(record.config, load_source(record.config.source), record.architecture)
    assert sets is not None
    return sets


def test_what_came_back_is_found_and_only_that(project: Path) -> None:
    before = list_shadows()
    sequence = ("--original", "out/first:retrain", "--execution.run-name", "second")
    done = run(*sequence, "--methods", "original,retrain")
    assert done.returncode == 0, done.stderr
    assert list_shadows() == before, "the shadow models of the first run serve the second"
    sets = sets_of("second")
    for draw, earlier in zip(sets.draws, sets.earlier[0].forget, strict=True):
        assert (len(earlier), len(draw.forget), len(draw.train)) == (18, 15, 102)
        assert not np.isin(earlier, [*draw.train, *draw.non_members]).any()
        assert not np.isin(draw.forget, draw.retain).any()
    assert len({tuple(draw.forget) for draw in sets.draws}) == 3
    for seed in range(3):
        ours = ungan_dist.load("out/second", "original", seed=seed, trust=True)
        theirs = ungan_dist.load("out/first", "retrain", seed=seed, trust=True)
        assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))

    # a method that trains on what was forgotten; it finds the examples in a file
    forgotten = [sets.split.pool[forget].tolist() for forget in sets.earlier[0].forget]
    Path("earlier.json").write_text(json.dumps(forgotten))
    done = run(*sequence, "--methods", "original,retrain,again:learn_again")
    assert done.returncode == 0, done.stderr
    table = read_table("second")
    jsonschema.validate(table, json.loads(SCHEMA.read_text()))
    (request,) = table["earlier_requests"]
    assert (request["run"], request["method"], request["num_forget"]) == ("first", "retrain", 18)
    rows = {row["method"]: row for row in request["rows"]}
    assert rows["again:learn_again"]["returned"] == "came back"
    assert rows["again:learn_again"]["outcome"] == "under-forgotten"
    assert rows["again:learn_again"]["change"]["low"] > 0.1
    assert rows["retrain"]["returned"] != "came back"
    assert rows["retrain"]["outcome"] == "reference"
    assert rows["original"]["returned"] == "before"
    assert rows["original"]["change"] is None

    # the numbers by the definition: AUC of A's scores against those of D^s, minus that of the model before
    report = build_report(reopen_plan(read_run(Path("out/second"))), [], silent)
    for name, row in rows.items():
        aucs, changes = [], []
        for seed, forget in enumerate(sets.earlier[0].forget):
            scored = {item.method: item for item in report.evidence if item.seed == seed}
            values = {
                one: roc_auc_score(
                    np.repeat([1, 0], [len(forget), len(sets.draws[seed].non_members)]),
                    np.concatenate([item.scores[forget], item.scores[sets.draws[seed].non_members]]),
                )
                for one, item in scored.items()
            }
            aucs.append(values[name])
            changes.append(values[name] - values["original"])
        assert row["auc"]["per_seed"] == pytest.approx(aucs, abs=1e-6)
        if row["change"] is not None:
            assert row["change"]["per_seed"] == pytest.approx(changes, abs=1e-6)
    assert "learn_again came back" in " ".join(done.stdout.split())
    for text in ("table.md", "report.html"):
        assert "came back" in Path("out/second", text).read_text()
    again = run(*sequence, "--methods", "original,retrain,again:learn_again")
    assert again.stdout == done.stdout
    for words in (["report"], ["verify"]):
        opened = run_command(words[0], "out/second", *words[1:])
        assert opened.returncode == 0, opened.stderr

    # a third request: both earlier ones are audited again
    third = ("--original", "out/second:again:learn_again", "--execution.run-name", "third")
    done = run(*third, "--methods", "original,retrain")
    assert done.returncode == 0, done.stderr
    earlier = read_table("third")["earlier_requests"]
    assert [(one["run"], one["method"], one["num_forget"]) for one in earlier] == [
        ("first", "retrain", 18),
        ("second", "again:learn_again", 15),
    ]
    assert earlier[0]["rows"][0]["outcome"] == "under-forgotten"


def test_a_list_is_taken_from_what_the_run_retained(project: Path) -> None:
    pool = sets_of_first()
    Path("later.csv").write_text("\n".join(["index", *map(str, pool["kept"][:9])]))
    Path("again.csv").write_text("\n".join(["index", str(pool["forgotten"][0])]))
    Path("outside.csv").write_text("\n".join(["index", str(pool["non_members"][0])]))
    sequence = ("--num-seeds", "1", "--original", "out/first:fine_tuning", "--execution.run-name", "listed")
    quick = ("--attack.quick", "--methods", "original,retrain")
    assert_refused(run(*sequence, *quick, "--forget", "again.csv"), "line 2", "forgot it already (seed 0)")
    assert_refused(run(*sequence, *quick, "--forget", "outside.csv"), "line 2", "did not train on it (seed 0)")
    done = run(*sequence, *quick, "--forget", "later.csv")
    assert done.returncode == 0, done.stderr
    sets = sets_of("listed")
    assert sets.split.pool[sets.draws[0].forget].tolist() == sorted(pool["kept"][:9])
    assert read_table("listed")["earlier_requests"][0]["num_forget"] == 18


def sets_of_first() -> dict[str, list[int]]:
    record = read_run(Path("out/first"))
    source = load_source(record.config.source)
    split, draw = make_split(record.config.split, len(source.images), source.test), draw_sets(record.config.split, 0)
    parts = {"kept": draw.retain, "forgotten": draw.forget, "non_members": draw.non_members}
    return {name: split.pool[part].tolist() for name, part in parts.items()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--original", "out/first:ungan"], ["the run has no model of ungan, seed 0"]),
        (["--original", "out/first:original"], ["has forgotten nothing: name a method"]),
        (["--original", "out/absent:retrain"], ["out/absent is not a run folder"]),
        (["--num-seeds", "4"], ["num_seeds 4 exceeds the 3 of out/first"]),
        (["--train.epochs", "3"], ["settings differ: train.epochs: 20 → 3"]),
        (["--split.seed", "7"], ["settings differ: split.seed: 42 → 7"]),
        (["--model.initial-seed", "1"], ["settings differ: model.initial_seed: None → 1"]),
        (["--source.path", "other.parquet"], ["was made from other data"]),
        (
            ["--split.forget", "class=1"],
            ["a sequence forgets random or listed examples, and split.forget names others"],
        ),
        (["--members", "list.csv"], ["--members follows from the run"]),
        (["--original-key", "ema"], ["--original-key chooses among the weights of a file"]),
        (["--attack.unlearned-shadows", "retrain"], ["shadow models that forgot the earlier request first"]),
        (["--split.forget-fraction", "0.97", "--attack.fnr", "0.3"], ["3 examples are left to retain after 2"]),
    ],
)
def test_what_does_not_fit_the_run_is_refused(project: Path, options: list[str], words: list[str]) -> None:
    write_noise_parquet(project / "other.parquet", [f"y{number}" for number in range(NUM_EXAMPLES + 20)])
    named = () if "--original" in options else ("--original", "out/first:retrain")
    refused = run(*named, "--methods", "original,retrain", "--execution.run-name", "second", *options)
    assert_refused(refused, *words)
    assert not Path("out/second").exists()
