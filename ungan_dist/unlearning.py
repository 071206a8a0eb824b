"""One model, one method, from Python: no run folder, no audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from ungan_dist.config import recipes
from ungan_dist.config.audit import AuditConfig, method_config
from ungan_dist.config.methods import check_method
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.data.seeds import seed_layers
from ungan_dist.methods import Request, run_method
from ungan_dist.training.factories import check_trainable
from ungan_dist.training.models import frozen_copy, trainable_copy
from ungan_dist.training.world import World


@dataclass(frozen=True, kw_only=True, eq=False)
class ForgetData:
    """Images in memory, and the sets to forget and to retain as indices into them.

    Examples:
        >>> images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
        >>> data = ForgetData(images=images, labels=[0, 1, 0, 1], forget=[0], retain=[1, 2], unseen=[3])
    """

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int[np.ndarray, " examples"] | Int[Tensor, " examples"] | Sequence[int]
    forget: Int[np.ndarray, " forget"] | Int[Tensor, " forget"] | Sequence[int]
    """D_f, which the model was trained on."""
    retain: Int[np.ndarray, " retain"] | Int[Tensor, " retain"] | Sequence[int]
    """D_r, which the model was trained on and has to keep."""
    unseen: Int[np.ndarray, " unseen"] | Int[Tensor, " unseen"] | Sequence[int]
    """D_u, which the model has never seen. UnGAN's critic compares with it."""
    mean: tuple[float, ...] | None = None
    """One per channel, for pixels divided by 255, as in the model's training; defaults to the retain set's."""
    std: tuple[float, ...] | None = None


def unlearn(
    model: nn.Module, data: ForgetData, method: str, *, config: AuditConfig | None = None, seed: int = 0
) -> nn.Module:
    """Return an unlearned copy of a model, in eval mode on its device. The model itself is not modified.

    Args:
        model: maps normalised images [batch, channels, height, width] to logits [batch, classes].
        data: the images and the sets.
        method: a row of the table, for example ``"ungan"``; not ``"unlearned"``.
        config: options of the method and of training; defaults to those of the recipe ``custom``.
        seed: fixes every random draw.

    Raises:
        ValueError: images, labels or normalisation have the wrong form; sets are empty, overlap or are outside the
            data; the model has no output for a label, cannot be trained or returns no finite logits; the method is
            unknown, or needs an audit's files or new weights that cannot be drawn; unlearning diverged.

    Examples:
        >>> pixels = torch.arange(60 * 16, dtype=torch.uint8).reshape(60, 4, 4, 1).numpy()
        >>> data = ForgetData(
        ...     images=pixels, labels=[0, 1] * 30, forget=range(10), retain=range(10, 50), unseen=range(50, 60)
        ... )
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        >>> unlearned = unlearn(model, data, "fine_tuning")
        >>> torch.equal(unlearned[1].weight, model[1].weight)
        False
    """
    config = config or recipes.custom()
    check_method(method)
    if method == "unlearned":
        raise ValueError("unlearned stands for a file of weights; name a method of the table")
    check_trainable(model)
    if method == "retrain":
        _check_new_weights(model)
    images, labels, sets = _images(data), _labels(data), _sets(data)
    mean, std = _normalisation(data, images[sets["retain"]])
    device = next(model.parameters()).device
    examples = Examples(
        images=torch.from_numpy(np.ascontiguousarray(images)).to(device),
        labels=torch.from_numpy(labels).to(device),
        table=make_normalisation_table(mean, std).to(device),
        num_classes=_num_classes(model, images, labels),
    )

    retain, forget, unseen = (torch.from_numpy(sets[name]).to(device) for name in ("retain", "forget", "unseen"))
    request = Request(
        original=frozen_copy(model),
        fresh=_fresh(model, seed),
        data=examples,
        retain=retain,
        forget=forget,
        unseen=unseen,
        train=config.train,
        seed=seed,
        world=World(device=device),
    )
    settings = method_config(config, method)
    with seed_layers(method, seed):
        unlearned = run_method(request, settings).model
    for name, value in unlearned.state_dict().items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{method} diverged: {name} is no longer finite; lower the learning rate in config")
    return unlearned


def _images(data: ForgetData) -> UInt8[np.ndarray, "examples height width channels"]:
    images = _array(data.images)
    if images.dtype != np.uint8:
        raise ValueError(
            f"images hold {images.dtype}, uint8 from 0 to 255 is needed: floats between 0 and 1 are "
            f"(images * 255).round().astype(np.uint8)"
        )
    if images.ndim != 4 or not 1 <= images.shape[3] <= 4:
        first = images.ndim == 4 and 1 <= images.shape[1] <= 4
        remedy = (
            "their channels come first: images.transpose(0, 2, 3, 1)" if first else "grey ones are images[..., None]"
        )
        raise ValueError(
            f"images have the shape {images.shape}, [examples, height, width, channels] with 1 to 4 channels is "
            f"needed; {remedy}"
        )
    return images


def _labels(data: ForgetData) -> Int[np.ndarray, " examples"]:
    labels = _integers("labels", data.labels)
    if len(labels) != len(data.images):
        raise ValueError(f"there are {len(labels)} labels for {len(data.images)} images: give one an image")
    return labels


def _sets(data: ForgetData) -> dict[str, Int[np.ndarray, " some"]]:
    given = {"forget": data.forget, "retain": data.retain, "unseen": data.unseen}
    sets: dict[str, Int[np.ndarray, " some"]] = {}
    for name, positions in given.items():
        if not len(positions):
            raise ValueError(f"the {name} set is empty: name at least one example")
        sets[name] = _integers(name, positions)
        outside = sets[name][(sets[name] < 0) | (sets[name] >= len(data.images))]
        if len(outside):
            raise ValueError(f"{name}: index {outside[0]} is out of range, must be 0 … {len(data.images) - 1}")
    values, counts = np.unique(np.concatenate(list(sets.values())), return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"example {values[counts > 1][0]} is listed twice: forget, retain and unseen must not meet")
    return sets


def _integers(name: str, values: Any) -> Int[np.ndarray, " values"]:
    array = _array(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        remedy = "; a mask is np.flatnonzero(mask)" if array.dtype.kind == "b" else ""
        raise ValueError(f"{name} must be one row of integers, got {array.dtype} of shape {array.shape}{remedy}")
    return array.astype(np.int64)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values)


def _normalisation(
    data: ForgetData, retained: UInt8[np.ndarray, "retain height width channels"]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation a channel: as given, or of the retain set."""
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


def _num_classes(
    model: nn.Module,
    images: UInt8[np.ndarray, "examples height width channels"],
    labels: Int[np.ndarray, " examples"],
) -> int:
    """As many as the model has outputs: the data may lack a class."""
    _, height, width, channels = images.shape
    pictures = torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), seed_layers("check"):
        outputs: object = frozen_copy(model)(pictures.to(next(model.parameters()).device))
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"the model gives {got} for two pictures; logits [2, classes] are needed: wrap it so")
    if not torch.isfinite(outputs).all():
        raise ValueError(f"the outputs of the model ({type(model).__name__}) are not finite: its weights are no model")
    num_classes = outputs.shape[-1]
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(f"label {outside[0]} is out of range: the model has outputs for 0 … {num_classes - 1}")
    return num_classes


def _check_new_weights(model: nn.Module) -> None:
    """Retrain must not start from anything that was learned."""
    for name, layer in model.named_modules():
        if _learned(layer) and not _resets(layer):
            raise ValueError(
                f"retrain needs new weights, and {name or 'the model'} ({type(layer).__name__}) has parameters but no "
                f"reset_parameters() to draw them: give it one, or train a new model yourself"
            )


def _learned(layer: nn.Module) -> bool:
    """Whether it has parameters of its own that are not frozen: what is frozen was not learned from this data."""
    return any(parameter.requires_grad for parameter in layer.parameters(recurse=False))


def _resets(layer: nn.Module) -> list[Callable[[], object]]:
    # torch's attention calls its own _reset_parameters
    found = [getattr(layer, name, None) for name in ("reset_parameters", "_reset_parameters")]
    return [reset for reset in found if callable(reset)]


def _fresh(model: nn.Module, seed: int) -> nn.Module:
    """The same architecture with new weights, by each layer's own initialisation; frozen layers as they are."""
    fresh = trainable_copy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in fresh.modules():
            own = list(layer.parameters(recurse=False))
            if own and not _learned(layer):
                continue
            for reset in _resets(layer):
                reset()
    return fresh
