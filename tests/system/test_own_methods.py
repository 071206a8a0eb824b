"""A method of the user's own through the command line: its options, its identity, U-LiRA, and code that changes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS

import ungan_dist
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import execute

pytestmark = pytest.mark.usefixtures("without_figures")
MODULE = "shrinking_methods"
SOURCE = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

import shrinking_help

if TYPE_CHECKING:
    from ungan_dist.methods import Request


@dataclass(frozen=True)
class Options:
    rate: float = 0.5
    """Share of each weight that is kept."""


def shrink(request: Request, options: Options) -> nn.Module:
    model = request.copy_original()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(shrinking_help.twice(options.rate / 2))
    return model


def broken(request):
    raise RuntimeError("out of ideas")


def untouched(request):
    return request.copy_original()


def retrained(request):
    from ungan_dist.config.methods import RetrainConfig
    from ungan_dist.methods.retrain import retrain

    return retrain(request, RetrainConfig()).model
'''
HELP = "def twice(value):\n    return 2 * value\n"
METHODS = ("--methods", f"original,retrain,{MODULE}:shrink")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of methods, in which commands run; their units are executed in this process."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    (tmp_path / "shrinking_help.py").write_text(HELP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    yield tmp_path
    forget_modules()


def forget_modules() -> None:
    """Let the next command import the project's modules anew, as a process of its own would."""
    for name in (MODULE, "shrinking_help"):
        sys.modules.pop(name, None)


def command(*words: str) -> Any:
    forget_modules()
    return run_command("run", "digits", *SMALL_OPTIONS, "--train.epochs", "1", "--output", "out", *words)


def read_table(folder: str = "out/run") -> dict[str, Any]:
    return {row["method"]: row for row in json.loads(Path(folder, "table.json").read_text())["rows"]}


def test_it_is_run_reported_verified_exported_and_purged_like_ours(project: Path) -> None:
    done = command(*METHODS)
    assert done.returncode == 0, done.stderr
    assert "\n shrink " in done.stdout
    row = read_table()[f"{MODULE}:shrink"]
    assert row["auc"]["mean"] != read_table()["original"]["auc"]["mean"]
    again = command(*METHODS)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    model = ungan_dist.load("out/run", f"{MODULE}:shrink")
    original = ungan_dist.load("out/run", "original")
    for ours, before in zip(model.parameters(), original.parameters(), strict=True):
        assert ours.equal(before * 0.5)
    # opening a run imports nothing of it
    (project / f"{MODULE}.py").unlink()
    forget_modules()
    for words in (["report"], ["verify"], ["verify", "--quick"], ["export"], ["status"], ["purge"]):
        opened = run_command(words[0], "out/run", *words[1:])
        assert opened.returncode == 0, opened.stderr
        assert MODULE not in sys.modules


@pytest.mark.process
def test_its_options_make_another_run_and_its_source_another_result(project: Path) -> None:
    assert command(*METHODS).returncode == 0
    named = command(*METHODS, "--shrink.rate", "0.25")
    assert_refused(named, "holds a run of another config", f"{MODULE}:shrink.rate=0.25")
    apart = command(*METHODS, "--shrink.rate", "0.25", "--execution.run-name", "apart")
    assert apart.returncode == 0, apart.stderr
    model, original = (ungan_dist.load("out/apart", name) for name in (f"{MODULE}:shrink", "original"))
    for ours, before in zip(model.parameters(), original.parameters(), strict=True):
        assert ours.equal(before * 0.25)

    # a module that the method uses counts as its source
    (project / "shrinking_help.py").write_text(HELP.replace("2 *", "2.5 *"))
    changed = command(*METHODS)
    assert_refused(changed, f"the source of {MODULE}:shrink", "has changed since", "Restore it", "--execution.run-name")
    (project / "shrinking_help.py").write_text(HELP)
    assert command(*METHODS).returncode == 0

    # another name adds a row to the same run
    with (project / f"{MODULE}.py").open("a") as file:
        file.write("\n\ndef shrink_more(request):\n    return shrink(request, Options(rate=0.1))\n")
    more = command("--methods", f"original,retrain,{MODULE}:shrink_more")
    assert more.returncode == 0, more.stderr
    assert not read_table("out/run").keys() & {f"{MODULE}:shrink_more"}, "it is a view beside the report"


def test_a_method_that_raises_is_refused_and_once_mended_runs(project: Path) -> None:
    refused = command("--methods", f"original,retrain,{MODULE}:broken")
    assert_refused(refused, f"cannot be given to {MODULE}:broken", "RuntimeError: out of ideas")
    path = project / f"{MODULE}.py"
    path.write_text(path.read_text().replace('raise RuntimeError("out of ideas")', "return request.original"))
    refused = command("--methods", f"original,retrain,{MODULE}:broken")
    assert_refused(refused, "returned a model of the request itself", "request.copy_original()")
    path.write_text(path.read_text().replace("return request.original", "return request.copy_fresh()"))
    assert command("--methods", f"original,retrain,{MODULE}:broken").returncode == 0


def test_one_that_returns_the_original_or_a_retrained_copy_is_a_caveat(project: Path) -> None:
    methods = f"original,retrain,{MODULE}:untouched,{MODULE}:retrained,{MODULE}:shrink"
    done = command("--attack.quick", "--methods", methods)
    assert done.returncode == 0, done.stderr
    caveats = json.loads(Path("out/run/table.json").read_text())["caveats"]
    equal = [text for text in caveats if "exactly the weights" in text]
    assert len(equal) == 2, equal
    assert "untouched has exactly the weights of the original" in equal[0]
    assert "retrained has exactly the weights of Retrain" in equal[1]


def test_shadow_models_unlearn_by_it(project: Path) -> None:
    words = ("--shadows.num-models", "6", "--attack.unlearned-shadows", f"{MODULE}:shrink")
    done = command(*METHODS, *words)
    assert done.returncode == 0, done.stderr
    assert read_table()[f"{MODULE}:shrink"]["ulira"]["num_shadows"] == 6
    assert read_table()["retrain"].get("ulira") is None


def test_runs_without_it_keep_their_hash_and_ids(project: Path) -> None:
    from ungan_dist.commands.options import recipe_config
    from ungan_dist.config.identity import run_hash
    from ungan_dist.runs.plan import make_plan

    configs = [
        recipe_config(["digits", *SMALL_OPTIONS, "--output", "out", *words], command="run")
        for words in (("--methods", "original,retrain"), METHODS)
    ]
    assert len({run_hash(config, "data") for config in configs}) == 1
    before, after = ([unit.id for unit in (*plan.targets, *plan.shadows)] for plan in map(make_plan, configs))
    assert set(before) < set(after)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("shrinking_methods:shrnk", ["has no function 'shrnk'", "did you mean shrink?"]),
        ("absent_methods:shrink", ["there is no module absent_methods", "Run from the folder that holds it"]),
        ("shrinking_methods:Options", ["has no function 'Options'"]),
        ("shrinking methods:shrink", ["a method of your own is named module:function"]),
        ("__main__:shrink", ["names the script or notebook itself", "write own:shrink"]),
        ("shrinking_methods:ungan", ["has the name of an option of the run: rename the function"]),
        ("shrinking_methods:shrink,other_methods:shrink", ["have one name, by which options are set"]),
    ],
)
def test_names_that_cannot_be_used_are_refused(project: Path, named: str, words: list[str]) -> None:
    shutil.copy(project / f"{MODULE}.py", project / "other_methods.py")
    assert_refused(command("--methods", f"original,retrain,{named}"), *words)


def test_its_options_are_in_the_help_and_unknown_ones_are_refused(project: Path) -> None:
    shown = command(*METHODS, "--help")
    assert shown.returncode == 0
    assert "--shrink.rate" in shown.stdout
    assert "Share of each weight that is kept." in " ".join(shown.stdout.replace("│", " ").split())
    assert command(*METHODS, "--shrink.speed", "3").returncode == 2
