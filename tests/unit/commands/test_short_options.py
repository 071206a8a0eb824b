"""The short options of the recipe ``custom``, and commands without a recipe."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ungan_dist.commands import plan, run
from ungan_dist.commands.options import recipe_config
from ungan_dist.config.recipes import digits
from ungan_dist.errors import ConfigError
from ungan_dist.runs.again import write_command

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["--model", "--original", "--forget", "--members", "--unlearned", "--retrained"])
@pytest.mark.parametrize("again", ["short", "equals", "long"])
def test_an_option_given_twice_is_refused(name: str, again: str) -> None:
    full = "--model.factory" if name == "--model" else name.replace("--", "--given.")
    second = {"short": [name, "n:b"], "equals": [f"{name}=n:b"], "long": [full, "n:b"]}[again]
    with pytest.raises(ConfigError, match=f"{name} was given 2 times"):
        recipe_config(["custom", name, "m:a", *second], command="run")


def test_missing_options_are_named_as_typed() -> None:
    with pytest.raises(ConfigError, match=r"--members \(given.members\), or give --original if"):
        recipe_config(["custom", "--unlearned", "w", "--forget", "f"], command="run")


def test_a_short_option_of_custom_is_named_in_full_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"digits has no option --forget: here it is --given\.forget$"):
        recipe_config(["digits", "--forget", "f3.txt"], command="plan")
    assert recipe_config(["digits", "--given.forget", "f3.txt"], command="plan").given.forget == "f3.txt"


@pytest.mark.parametrize("forget", ["random=1", "hardest=9", "class=3"])
@pytest.mark.parametrize("option", ["--split.forget-fraction=0.5", "--split.forget_fraction=0.5"])
def test_a_fraction_that_nothing_uses_is_refused(forget: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "records.parquet").touch()
    scores = ["--given.scores", str(tmp_path)] if forget.startswith("hardest") else []
    assert recipe_config(["digits", "--split.forget", forget, *scores], command="run").split.forget_fraction == 0.2
    with pytest.raises(ConfigError, match=f"{forget} leaves split.forget_fraction unused: leave it out"):
        recipe_config(["digits", "--split.forget", forget, option, *scores], command="run")
    with pytest.raises(ValueError, match=r"leaves split\.forget_fraction unused"):
        digits(split={"forget": forget, "forget_fraction": 0.5})


@pytest.mark.parametrize("command", [run, plan])
def test_missing_records_are_missed_before_the_data_are_read(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ungan_dist.data.sources.source.load_source", pytest.fail)
    with pytest.raises(ConfigError, match=r"write it by ungan-dist export 'runs/my digits' --records"):
        command.main(["digits", "--split.forget", "hardest=9", "--given.scores", "runs/my digits"])


def test_a_smaller_training_set_names_the_option_that_it_needs() -> None:
    with pytest.raises(ValueError, match=r"shadow_pool=675: add --split\.shadow-pool 300$"):
        digits(split={"train": 300})


@pytest.mark.parametrize(
    "arguments",
    [
        ["digits", "--split.forget", "class=3", "--num-seeds", "2", "--methods", "original,retrain"],
        ["digits-table", "--attack.quick", "--attack.fprs", "0.1", "0.05", "--output", "my runs"],
        ["custom", "--forget", "f.txt", "--source.path", "a b", "--train.learning-rate", "0.3"],
    ],
)
def test_the_command_that_continues_a_run_gives_its_config(arguments: list[str]) -> None:
    config = recipe_config(arguments, command="run")
    words = shlex.split(write_command(config))
    assert words[:3] == ["ungan-dist", "run", arguments[0]]
    assert recipe_config(words[2:], command="run") == config


@pytest.mark.parametrize("arguments", [[], ["--output", "runs"]])
def test_a_command_without_a_recipe_lists_the_recipes(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="name a recipe first: digits, cifar10-tiny"):
        recipe_config(arguments, command="run")


def test_the_package_lists_only_its_public_names() -> None:
    code = "import ungan_dist; print([name for name in dir(ungan_dist) if not name.startswith('__')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    names = [
        "AuditConfig",
        "Event",
        "ForgetData",
        "Report",
        "Tracker",
        "audit",
        "load",
        "load_p_values",
        "preprocess",
        "recipes",
        "unlearn",
    ]
    assert done.stdout.strip() == str(names)
