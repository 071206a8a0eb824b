"""``ungan-dist recipes``: list the recipes."""

from __future__ import annotations

from ungan_dist.commands.parser import Parser

USAGE = """\
usage: ungan-dist recipes

List the recipes. `ungan-dist run RECIPE --help` lists the options of one, with its defaults.
"""


def main(arguments: list[str]) -> int:
    """List the recipes."""
    Parser("recipes").parse(arguments)

    from ungan_dist.config.recipes import RECIPES

    for name, recipe in RECIPES.items():
        print(f"{name:<18} {(recipe.__doc__ or '').strip().splitlines()[0]}")
    return 0
