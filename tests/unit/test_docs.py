"""The documentation against the code: examples run, commands and options exist, published figures are current."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch
from small_audit import small_config

import ungan_dist
from ungan_dist import cli, kernels
from ungan_dist.attack import intervals, lira, metrics, power, verdicts
from ungan_dist.config import recipes
from ungan_dist.config.execution import ExecutionConfig
from ungan_dist.config.recipes import RECIPES
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import execute

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"))
    if ".venv" not in path.parts
)
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT)
    for folder in ("ungan_dist", "kernels")
    for path in (ROOT / folder).rglob("*.py")
    if ">>> " in path.read_text()
)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; plain blocks have none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    return [text for name, text in found if name == language]


def command_lines(page: Path) -> Iterator[list[str]]:
    """Every ``ungan-dist`` and ``make`` command of a page's plain blocks, as words."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|\||;", line):
                words = shlex.split(command, comments=True)
                start = next((i for i, word in enumerate(words) if word in ("ungan-dist", "make")), None)
                if start is not None:
                    yield words[start:]
                elif words[:1] == ["torchrun"]:
                    yield ["ungan-dist", *words[words.index("ungan_dist") + 1 :]]


COMMANDS = {" ".join(words): words for page in PAGES for words in command_lines(page)}


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_examples_in_docstrings_run(path: Path, monkeypatch: pytest.MonkeyPatch, without_figures: None) -> None:
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name if name.startswith("ungan_dist") else f"ungan_dist.{name}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert not failed


@pytest.mark.parametrize(
    "page",
    # the notebook is executed by tests/system/test_notebook.py
    [page for page in PAGES if blocks(page, "python") and page.name != "notebook.md"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_figures: None) -> None:
    """The blocks of a page run in order; the recipe digits is reduced to seconds, in this process."""
    small = replace(small_config(tmp_path), output="runs", execution=ExecutionConfig(progress="none"))
    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    monkeypatch.setattr("ungan_dist.config.recipes.digits", lambda: small)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(block, names)
    if "report" in names:
        assert [row.method for row in names["report"].rows] == list(small.methods)
        assert torch.isfinite(names["model"](torch.zeros(2, 1, 8, 8))).all()
    if "unlearned" in names:
        assert not names["unlearned"].training
        assert not torch.equal(names["unlearned"][1].weight, names["model"][1].weight)


def documented() -> Iterator[tuple[str, Any]]:
    """Public functions and classes that users call."""
    modules = {
        ungan_dist: [name for name in ungan_dist.__all__ if name not in ("recipes", "Report")],
        kernels: [*sorted(set(kernels.impl.FUSED)), "CriticOptions", "resolve"],
        recipes: [recipe.__name__ for recipe in RECIPES.values()],
        metrics: [name for name in vars(metrics) if isinstance(getattr(metrics, name), FunctionType)],
        intervals: ["student_t_interval", "bootstrap_interval", "draw_resample_counts", "bootstrap"],
        verdicts: ["decide_verdict"],
        lira: ["resolve_variance", "likelihood_ratio", "fit_shadows"],
        power: ["estimate_power"],
    }
    for module, names in modules.items():
        for name in names:
            found = getattr(module, name)
            if not name.startswith("_") and found.__module__.startswith("ungan_dist"):
                yield f"{module.__name__}.{name}", found


@pytest.mark.parametrize(("name", "found"), [pytest.param(*pair, id=pair[0]) for pair in documented()])
def test_public_names_have_an_example(name: str, found: Any) -> None:
    assert ">>> " in (found.__doc__ or ""), f"{name} has no example in its docstring"


class Parsed(Exception):
    """Raised instead of executing a command whose options were accepted."""


@pytest.fixture
def documented_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files that the page on methods of one's own tells the reader to save."""
    written = blocks(ROOT / "docs/own-method.md", "python")
    (tmp_path / "bad_teaching.py").write_text(written[0])
    (tmp_path / "mine.py").write_text(next(text for text in written if "def augment" in text))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("bad_teaching", "mine"):  # other tests of this process have modules of these names
        sys.modules.pop(name, None)


def test_the_lines_of_code_of_a_strangers_file_are_counted() -> None:
    page = ROOT / "docs/own-method.md"
    source = next(text for text in blocks(page, "python") if "def augment" in text)
    num_lines = sum(bool(line.strip()) for line in source.splitlines())
    assert f"`mine.py` has {num_lines} lines of code" in page.read_text()


@pytest.mark.usefixtures("documented_method")
@pytest.mark.parametrize("command", [name for name in COMMANDS if name.startswith("ungan-dist")])
def test_commands_and_options_exist(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, *arguments = COMMANDS[command]
    assert name in cli.COMMANDS
    module = importlib.import_module(cli.COMMANDS[name])
    if not hasattr(module, "recipe_config"):
        usage = getattr(module, "USAGE", "")
        for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
            assert f"{option}" in usage, f"{name} has no option {option}"
        return
    recipe = arguments[1] if name == "manifest" else arguments[0]
    if recipe.startswith("-") and name != "audit":
        assert recipe == "--help"
        return
    assert name == "audit" or recipe in RECIPES or recipe == "RECIPE"
    parse = module.recipe_config

    def parse_only(words: list[str], *, command: str) -> None:
        parse([next(iter(RECIPES)) if word == "RECIPE" else word for word in words], command=command)
        raise Parsed

    monkeypatch.setattr(module, "recipe_config", parse_only)
    expected = (Parsed, SystemExit) if "--help" in arguments else Parsed
    with pytest.raises(expected):
        module.main([word for word in arguments if word not in ("…", "...")])


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.startswith("make")])
def test_make_targets_exist(command: str) -> None:
    _, target, *_ = COMMANDS[command]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), flags=re.M)


def test_an_unknown_option_is_found() -> None:
    from ungan_dist.commands.options import recipe_config

    with warnings.catch_warnings(), pytest.raises((SystemExit, ConfigError)):
        recipe_config(["digits", "--shadow.num-models", "128"], command="run")
