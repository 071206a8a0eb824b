"""Unlearn from Python: one model, one method, no run folder and no audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn

from ungan_dist.config import recipes
from ungan_dist.config.audit import AuditConfig, method_config
from ungan_dist.config.methods import OwnMethodConfig, check_method
from ungan_dist.config.own.functions import import_method, is_own
from ungan_dist.config.own.options import find_options, list_options
from ungan_dist.data.examples import Examples, gather, hold_examples
from ungan_dist.data.seeds import seed_layers
from ungan_dist.data.sources.source import shape_of_input
from ungan_dist.methods import Request, Unlearned, guard_request, run_method
from ungan_dist.runs.rehearsal.methods import rehearse_methods
from ungan_dist.training.factories import check_resettable, check_trainable, reset_weights
from ungan_dist.training.models import frozen_copy, trainable_copy
from ungan_dist.training.precision import check_precision, use_precision
from ungan_dist.training.probing import probe, random_inputs
from ungan_dist.training.rehearsal.building import (
    check_copies,
    check_independent,
    check_own_layers,
    check_parameters,
)
from ungan_dist.training.rehearsal.evaluation import check_evaluation
from ungan_dist.training.rehearsal.steps import MAX_BATCH, check_training, smallest_batch
from ungan_dist.training.world import World

MAX_SAMPLE = 64
"""Most examples of each set that the model is tried on first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ForgetData:
    """Images or features in memory, and the sets as indices into them.

    Examples:
        >>> images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
        >>> data = ForgetData(images=images, labels=[0, 1, 0, 1], forget=[0], retain=[1, 2], unseen=[3])
    """

    images: UInt8[np.ndarray, "examples height width channels"] | None = None
    labels: Int[np.ndarray, " examples"] | Int[Tensor, " examples"] | Sequence[int]
    forget: Int[np.ndarray, " forget"] | Int[Tensor, " forget"] | Sequence[int]
    """D_f, the training examples to forget."""
    retain: Int[np.ndarray, " retain"] | Int[Tensor, " retain"] | Sequence[int]
    """D_r, the training examples to keep."""
    unseen: Int[np.ndarray, " unseen"] | Int[Tensor, " unseen"] | Sequence[int]
    """D_u, examples that the model was not trained on; UnGAN's critic compares with them."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean of pixels divided by 255, as used in training; defaults to that of the retain set."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation, likewise."""
    features: Shaped[np.ndarray, "examples ..."] | Shaped[Tensor, "examples ..."] | None = None
    """In place of images: numbers of any shape, just as the model takes them; nothing is scaled."""


def unlearn(
    model: nn.Module,
    data: ForgetData,
    method: str | Callable[..., nn.Module | Unlearned],
    *,
    options: Any = None,
    config: AuditConfig | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return an unlearned copy of a model, in eval mode and on the model's device.

    Before the method runs, the model is tried on a few examples, as a run of the command line does.

    Args:
        model: maps normalised images [batch, channels, height, width], or features, to logits [batch, classes]; not
            modified.
        data: the images or features, and the sets.
        method: a row of the table, such as ``"ungan"``, but not ``"unlearned"``; or a function of your own, which takes
            a ``Request``, may take its options, and returns the unlearned model.
        options: options of your own function; defaults to its defaults.
        config: options of methods and training; defaults to the recipe ``custom``.
        seed: determines every random draw.

    Raises:
        ValueError: invalid data or sets, a model that cannot be trained, is not in float32, or whose outputs in eval
            mode are no finite logits of the example alone, an unknown method, or unlearning that diverged. For
            ``"retrain"`` also a layer without ``reset_parameters()``.

    Examples:
        >>> import numpy as np, torch, ungan_dist
        >>> images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
        >>> data = ungan_dist.ForgetData(
        ...     images=images, labels=np.arange(60) % 3, forget=range(10), retain=range(10, 40), unseen=range(40, 60)
        ... )
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> unlearned = ungan_dist.unlearn(model, data, "fine_tuning")
        >>> torch.equal(unlearned[1].weight, model[1].weight)
        False
    """
    config = config or recipes.custom()
    own = None
    if callable(method) or is_own(method):
        own = _describe(method if callable(method) else import_method(method), options)
        method = own.path
    else:
        check_method(method)
        if options is not None:
            raise ValueError(f"the options of {method} are a part of config: config=recipes.custom({method}={{…}})")
    if method == "unlearned":
        raise ValueError("the row unlearned needs a file of weights: name another method")
    check_trainable(model)
    if method == "retrain":
        check_resettable(model)
    images = _images(data) if data.features is None else _features(data)
    labels, sets = _labels(data, len(images)), _sets(data, len(images))
    mean, std = _normalisation(data, images[sets["retain"]]) if data.features is None else ((), ())
    device = next(model.parameters()).device
    check_parameters(model, device)
    check_independent(model)
    check_precision(config.train.precision, device.type)
    num_classes = probe(frozen_copy(model), random_inputs(2, shape_of_input(images)).to(device)).shape[1]
    _check_range("label", labels, num_classes, "the model has outputs for")
    examples = hold_examples(
        np.ascontiguousarray(images), labels, mean=mean, std=std, num_classes=num_classes, device=device
    )
    examples = replace(examples, channels_last=config.train.memory_format == "channels_last")
    fresh = trainable_copy(model)
    reset_weights(fresh, seed)
    retain, forget, unseen = (torch.from_numpy(sets[name]).to(device) for name in ("retain", "forget", "unseen"))
    settings = own or method_config(config, method)
    with use_precision(config.train.precision):
        of_sets = {name: torch.from_numpy(of) for name, of in sets.items()}
        _rehearse(model, examples, of_sets, config, {method: settings})
    request = Request(
        original=frozen_copy(model),
        fresh=fresh,
        data=examples,
        retain=retain,
        forget=forget,
        unseen=unseen,
        train=config.train,
        seed=seed,
        world=World(device=device),
    )
    with (
        guard_request(request, settings),
        use_precision(config.train.precision),
        seed_layers(method, seed),
    ):
        unlearned = run_method(request, settings).model
    for name, value in unlearned.state_dict().items():
        if isinstance(value, Tensor) and not torch.isfinite(value).all():
            raise ValueError(f"{method} diverged: {name} is no longer finite; lower the learning rate in config")
    return unlearned


def _describe(function: Callable[..., Any], options: Any) -> OwnMethodConfig:
    path = f"{function.__module__}:{getattr(function, '__qualname__', repr(function))}"
    kind = find_options(function, path)
    if options is not None and (kind is None or not isinstance(options, kind)):
        wanted = "takes no options" if kind is None else f"takes options of type {kind.__name__}"
        raise ValueError(f"{path} {wanted}, got {options!r}")
    changed = () if options is None else list_options(path, options)
    return OwnMethodConfig(path=path, options=changed, function=function)


def _rehearse(
    model: nn.Module, examples: Examples, sets: Mapping[str, Tensor], config: AuditConfig, methods: Mapping[str, Any]
) -> None:
    """Do to copies of the model, with a few examples, what the method will do to it."""
    retain, forget, unseen = (sets[name][:MAX_SAMPLE].to(examples.device) for name in ("retain", "forget", "unseen"))
    sample = gather(examples, torch.cat([forget, retain, unseen]))
    check_evaluation(frozen_copy(model), sample, num_classes=examples.num_classes, seconds=0.3)
    check_own_layers(model, sample[:MAX_BATCH])
    trained = trainable_copy(model)
    smallest = smallest_batch(len(sets["retain"]), config.train.batch_size)
    check_training(trained, examples, retain, config.train, batch_size=min(smallest, MAX_BATCH))
    check_copies(trained, sample[:MAX_BATCH])
    request = Request(
        original=frozen_copy(model),
        fresh=trainable_copy(model),
        data=examples,
        retain=retain,
        forget=forget,
        unseen=unseen,
        train=config.train,
        seed=0,
        world=World(device=examples.device),
    )
    rehearse_methods(request, methods, num_retain=len(sets["retain"]), num_forget=len(sets["forget"]))


def _features(data: ForgetData) -> Float[np.ndarray, "examples ..."]:
    if data.images is not None or data.mean is not None or data.std is not None:
        raise ValueError("features go without images, mean and std: scale them as in training, and leave those out")
    features = _array(data.features)
    if features.dtype.kind not in "biuf" or features.ndim < 2 or not np.isfinite(features).all():
        raise ValueError(
            f"features must be finite numbers of shape [examples, …], got {features.dtype} of shape {features.shape}"
        )
    return features.astype(np.float32)


def _images(data: ForgetData) -> UInt8[np.ndarray, "examples height width channels"]:
    if data.images is None:
        raise ValueError("there are neither images nor features: give one of them")
    images = _array(data.images)
    if images.dtype != np.uint8:
        raise ValueError(
            f"images have type {images.dtype}, uint8 from 0 to 255 is needed: convert floats between 0 and 1 with "
            f"(images * 255).round().astype(np.uint8), or give other numbers as features"
        )
    if images.ndim != 4 or not 1 <= images.shape[3] <= 4:
        first = images.ndim == 4 and 1 <= images.shape[1] <= 4
        remedy = (
            "move channels last with images.transpose(0, 2, 3, 1)" if first else "pass grey images as images[..., None]"
        )
        raise ValueError(
            f"images have shape {images.shape}, [examples, height, width, channels] with 1 to 4 channels is needed: "
            f"{remedy}"
        )
    return images


def _labels(data: ForgetData, number: int) -> Int[np.ndarray, " examples"]:
    labels = _integers("labels", data.labels)
    if len(labels) != number:
        raise ValueError(f"there are {len(labels)} labels for {number} images: give one per image")
    return labels


def _sets(data: ForgetData, number: int) -> dict[str, Int[np.ndarray, " some"]]:
    given = {"forget": data.forget, "retain": data.retain, "unseen": data.unseen}
    sets: dict[str, Int[np.ndarray, " some"]] = {}
    for name, positions in given.items():
        if not len(positions):
            raise ValueError(f"the {name} set is empty: name at least one example")
        sets[name] = _integers(name, positions)
        _check_range(f"{name} index", sets[name], number, "must be")
    values, counts = np.unique(np.concatenate(list(sets.values())), return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"example {values[counts > 1][0]} is listed twice: forget, retain and unseen must not overlap")
    return sets


def _check_range(name: str, values: Int[np.ndarray, " values"], end: int, limits: str) -> None:
    outside = values[(values < 0) | (values >= end)]
    if len(outside):
        raise ValueError(f"{name} {outside[0]} is out of range: {limits} 0 … {end - 1}")


def _integers(name: str, values: Any) -> Int[np.ndarray, " values"]:
    array = _array(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        remedy = "; convert a mask with np.flatnonzero(mask)" if array.dtype.kind == "b" else ""
        raise ValueError(f"{name} must be a 1-d array of integers, got {array.dtype} of shape {array.shape}{remedy}")
    return array.astype(np.int64)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)


def _normalisation(
    data: ForgetData, retained: UInt8[np.ndarray, "retain height width channels"]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the per-channel mean and standard deviation: as given, or of the retain set."""
    if (data.mean is None) != (data.std is None):
        raise ValueError(f"mean {data.mean} and std {data.std} go together: give both or neither")
    if data.mean is None or data.std is None:
        pixels = retained.astype(np.float64) / 255
        return tuple(pixels.mean((0, 1, 2)).tolist()), tuple(float(value) or 1.0 for value in pixels.std((0, 1, 2)))
    channels = retained.shape[-1]
    if len(data.mean) != channels or len(data.std) != channels:
        raise ValueError(f"mean {data.mean} and std {data.std} need one value for each of the {channels} channels")
    if not all(map(math.isfinite, data.mean)) or not all(0 < value < math.inf for value in data.std):
        raise ValueError(f"mean {data.mean} must be finite and std {data.std} positive: they divide pixels of 0 to 1")
    return tuple(data.mean), tuple(data.std)
