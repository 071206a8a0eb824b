"""``ungan-dist new method`` writes a method that passes its own test, and overwrites nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from in_process import assert_refused, run_command

from ungan_dist.commands.options import recipe_config
from ungan_dist.config.audit import method_config
from ungan_dist.config.identity import identity


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def test_the_skeleton_passes_its_test_and_has_options(folder: Path) -> None:
    done = run_command("new", "method", "brand-new")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"brand_new.py", "test_brand_new.py"}
    importlib.import_module("test_brand_new").test_it_keeps_the_contract_of_methods()
    assert "the method is called brand_new, because brand-new is no name in Python" in done.stdout
    [named] = [line.split() for line in done.stdout.splitlines() if line.startswith("audit it:")]
    config = recipe_config(named[named.index("digits") :], command="run")
    plain = recipe_config(["digits", "--methods", "original,retrain"], command="run")
    assert identity(config) == identity(plain), "the suggested command extends the run of the recipe"
    assert "such as --brand-new.epochs 3, make another run" in done.stdout
    other = recipe_config([*named[named.index("digits") :], "--brand-new.epochs", "3"], command="run")
    assert method_config(other, "brand_new:brand_new").settings().epochs == 3
    assert identity(other) != identity(plain)
    before = {path.name: path.read_bytes() for path in folder.glob("*.py")}
    assert_refused(run_command("new", "method", "brand_new"), "brand_new.py, test_brand_new.py exist and are not")
    assert_refused(run_command("new", "method", "brand-new"), "the method is called brand_new: Python's names have no")
    assert {path.name: path.read_bytes() for path in folder.glob("*.py")} == before
    (folder / "brand_new.py").unlink()
    assert_refused(run_command("new", "method", "brand_new"), "test_brand_new.py exists and is not overwritten")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["method", "2fast"], "must be a name in Python"),
        (["method", "class"], "must be a name in Python"),
        (["method", "../outside"], "must be a name in Python"),
        (["method", "ungan"], "ungan is the name of an option of the run"),
        (["method", "json"], "json is the name of an installed module"),
        (["method"], "the following arguments are required: name"),
        (["model", "mine"], "invalid choice: 'model'"),
    ],
)
def test_names_that_would_not_work_are_refused(folder: Path, words: list[str], reason: str) -> None:
    assert_refused(run_command("new", *words), reason)
    assert not any(folder.iterdir())
