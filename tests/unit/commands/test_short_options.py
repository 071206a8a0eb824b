"""The short options of the recipe ``custom``, and commands without a recipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError

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
