"""``--help`` on narrow terminals has rewrapped text, no half-empty lines, and every needed name."""

from __future__ import annotations

import io
import itertools
import re
import shlex
from contextlib import redirect_stdout

import pytest

from ungan_dist.commands.help_text import field_texts, unwrap
from ungan_dist.commands.options import SHORT, recipe_config
from ungan_dist.config.data import SourceConfig
from ungan_dist.config.methods import ROWS
from ungan_dist.config.recipes import RECIPES


def help_of(recipe: str, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = io.StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit):
        recipe_config([recipe, "--help"], command="run")
    return shown.getvalue()


def test_paragraphs_are_rewrapped_and_backticks_are_removed() -> None:
    assert unwrap("One ``name``\n    goes on.\n\n    Another.") == "One name goes on.\n\nAnother."
    assert "checked against its checksum" in field_texts(SourceConfig)["kind"]


@pytest.mark.parametrize("width", [80, 100])
def test_help_fits_and_breaks_no_line_early(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of("custom", width, monkeypatch)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "``" not in text
    inside = [line.strip("│ ") if line.startswith("│") else "" for line in lines]
    for line, after in itertools.pairwise(inside):
        # a line ends early only if the next word does not fit or the paragraph ends
        if after and not after.startswith("-") and not line.startswith(("-", "─")) and line and "─" not in after:
            assert len(line) + 1 + len(after.split()[0]) > width - 12 or line.endswith((")", ".")), (line, after)


def test_help_names_the_short_options_and_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of("custom", 100, monkeypatch)
    for short, full in SHORT.items():
        assert re.search(rf"{short} \S+, {full} ", text)
    flat = re.sub(r"[│\s]+", " ", text)
    assert all(f" {name}," in flat or f" {name}." in flat for name in ROWS)
    assert not re.search(r"--model \S+,", help_of("digits", 100, monkeypatch))


def test_options_are_accepted_in_both_spellings() -> None:
    config = recipe_config(["custom", "--model", "a:b", "--given.forget", "list.csv"], command="run")
    assert (config.model.factory, config.given.forget) == ("a:b", "list.csv")
    config = recipe_config(["digits", "--unsir.noise-steps", "3", "--train.augment.flip"], command="run")
    assert (config.unsir.noise_steps, config.train.augment.flip) == (3, True)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("recipe", RECIPES)
def test_help_begins_with_few_options_examples_and_exit_codes(
    recipe: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    overview, _, every = help_of(recipe, width, monkeypatch).partition("all options, with the defaults")
    assert max(map(len, overview.splitlines())) <= width
    assert len(overview.splitlines()) <= 60
    named = {line.split()[0] for line in overview.splitlines() if line.startswith("  --")}
    assert {"--num-seeds", "--output", "--methods"} <= named
    assert all(re.search(rf"{name}[ ,]", every) for name in named), "an option of the overview does not exist"
    order = [overview.index(heading) for heading in ("options that most people need:", "examples:", "exit codes:")]
    assert order == sorted(order)
    if recipe == "custom":
        first = [line.split()[0] for line in overview.splitlines() if line.startswith("  --")][:3]
        assert first == ["--model", "--source.path", "--forget"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_examples_of_the_help_are_accepted(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    overview, *_ = help_of(recipe, 80, monkeypatch).partition("exit codes:")
    lines = overview.partition("examples:")[2].replace("\\\n", " ").strip().splitlines()
    for line in lines:
        program, command, *words = shlex.split(line)
        assert (program, command) in (("ungan-dist", "run"), ("ungan-dist", "plan"))
        assert recipe_config(words, command=command).name == recipe
    assert len(lines) >= 2
