"""Choose the kernels of a new run: the self-check in a process of its own, its cache, and the plan that follows."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.files import cache_folder

FOLDER = "kernels"
"""Of the verdicts, in the user's cache folder."""


def verdict_folder() -> Path:
    """Return the folder of this machine's verdicts, one JSON record each."""
    return cache_folder() / FOLDER
