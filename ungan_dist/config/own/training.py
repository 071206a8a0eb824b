"""Functions of the user's own in a training recipe: known by their names and by the hash of their source."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from ungan_dist.config.own.functions import Function, import_function
from ungan_dist.config.own.source import hash_function, read_sources
from ungan_dist.config.training import TrainConfig

TRAINING, AUGMENTATION = "training function", "augmentation"


def settle_training_sources(train: TrainConfig) -> TrainConfig:
    """Return the recipe with the hashes of its functions' source; only those without a known hash are imported.

    Raises:
        ValueError: a function cannot be imported.
    """
    source = _settle(train.function, train.function_source, TRAINING)
    return train if source == train.function_source else dataclasses.replace(train, function_source=source)


def _settle(path: str | None, known: str, kind: str) -> str:
    if path is None:
        return ""
    return known if read_sources([known]).get(path) else f"{path}={hash_function(path, kind)}"


def find_training_function(train: TrainConfig) -> Function:
    """Import the training function of a recipe.

    Raises:
        ImportError: its source, or the version of its package, is not that of the plan.
        ValueError: it cannot be imported.
    """
    assert train.function is not None
    return _find(train.function, train.function_source, TRAINING)


@functools.lru_cache(maxsize=16)
def _find(path: str, source: str, kind: str) -> Any:
    expected = read_sources([source]).get(path)
    if expected and hash_function(path, kind) != expected:
        raise ImportError(
            f"the source of {path}, or the version of its package, is not that of the machine that planned the run: "
            f"install the same on every worker, and run again"
        )
    return import_function(path, kind)
