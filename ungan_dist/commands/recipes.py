"""``ungan-dist recipes``: list the recipes."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """List the recipes."""
    from ungan_dist.config.recipes import RECIPES

    for name, recipe in RECIPES.items():
        print(f"{name:<18} {(recipe.__doc__ or '').strip().splitlines()[0]}")
    return 0
