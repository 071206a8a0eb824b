"""``ungan-dist recipes``: what can be run."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Lists the recipes."""
    from ungan_dist.config.recipes import RECIPES

    for name, recipe in RECIPES.items():
        print(f"{name:<18} {(recipe.__doc__ or '').strip().splitlines()[0]}")
    return 0
