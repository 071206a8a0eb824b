"""Functions of the user's own in a training recipe: known by their names and by the hash of their source."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from ungan_dist.config.own.functions import Function, import_function
from ungan_dist.config.own.source import hash_function, other_source, read_sources
from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.config.user_code import run_user_code

TRAINING, AUGMENTATION = "training function", "augmentation"


def settle_training_sources(train: TrainConfig) -> TrainConfig:
    """Return the recipe with the hashes of its functions' source; only those without a known hash are imported.

    Raises:
        ValueError: a function cannot be imported.
    """
    augment = train.augment
    source = _settle(train.function, train.function_source, TRAINING)
    factory_source = _settle(augment.factory, augment.factory_source, AUGMENTATION)
    if (source, factory_source) == (train.function_source, augment.factory_source):
        return train
    augment = dataclasses.replace(augment, factory_source=factory_source)
    return dataclasses.replace(train, augment=augment, function_source=source)


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
        raise other_source(path)
    return import_function(path, kind)


@functools.lru_cache(maxsize=16)
def find_transform(augment: AugmentConfig) -> Function:
    """Import and call the factory of an augmentation.

    Raises:
        ImportError: its source, or the version of its package, is not that of the plan.
        ValueError: it cannot be imported, raises, or returns nothing that can be called.
    """
    assert augment.factory is not None
    factory = _find(augment.factory, augment.factory_source, AUGMENTATION)
    with run_user_code(f"train.augment.factory {augment.factory}"):
        transform = factory()
    if not callable(transform):
        raise ValueError(
            f"train.augment.factory {augment.factory} must return a transform, got {type(transform).__name__}"
        )
    return transform
