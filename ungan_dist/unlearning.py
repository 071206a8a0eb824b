"""One model, one method, from Python: no run folder, no audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import nn

from ungan_dist import recipes
from ungan_dist.config import AuditConfig, Method, method_config
from ungan_dist.data import Examples, layer_draws, normalisation_table
from ungan_dist.methods import METHODS, Request
from ungan_dist.models import frozen_copy, trainable_copy
from ungan_dist.world import World


@dataclass(frozen=True, kw_only=True, eq=False)
class ForgetData:
    """Pictures and who is to be forgotten: arrays in memory, sets as indices into them."""

    images: UInt8[np.ndarray, "examples height width channels"]
    labels: Int[np.ndarray, " examples"]
    forget: Int[np.ndarray, " forget"]
    """D_f, which the model was trained on."""
    retain: Int[np.ndarray, " retain"]
    """D_r, which it was trained on too and shall keep."""
    unseen: Int[np.ndarray, " unseen"]
    """D_u, which it has never seen; UnGAN's critic compares with it."""
    mean: tuple[float, ...] | None = None
    """A channel, of pixels divided by 255, as the model was trained with; none: that of the retain set."""
    std: tuple[float, ...] | None = None


def unlearn(
    model: nn.Module, data: ForgetData, method: Method, *, config: AuditConfig | None = None, seed: int = 0
) -> nn.Module:
    """An unlearned copy of a model, in eval mode on the model's device; the model itself stays as it is.

    Args:
        model: maps normalised pictures [batch, channels, height, width] to logits [batch, classes].
        data: the pictures and the sets.
        method: a row of the table, for example ``"ungan"``; not ``"unlearned"``.
        config: whose options of the method and of training hold; none: those of the recipe ``custom``.
        seed: fixes every random draw.

    Raises:
        ValueError: sets that are empty, meet each other or lie outside the data; labels that the model has no output
            for; a method that needs an audit's files, or new weights that cannot be drawn.
    """
    config = config or recipes.custom()
    if method == "unlearned":
        raise ValueError("unlearned stands for a file of weights; name a method of the table")
    if method == "retrain":
        _check_new_weights(model)
    _check(data)
    device = next(model.parameters()).device
    retained = data.images[data.retain].astype(np.float64) / 255
    mean = data.mean or tuple(retained.mean((0, 1, 2)).tolist())
    std = data.std or tuple(float(value) or 1.0 for value in retained.std((0, 1, 2)))
    examples = Examples(
        images=torch.from_numpy(np.ascontiguousarray(data.images)).to(device),
        labels=torch.from_numpy(data.labels.astype(np.int64)).to(device),
        table=normalisation_table(mean, std).to(device),
        num_classes=_num_classes(model, data),
    )

    def indices(positions: Int[np.ndarray, " some"]) -> torch.Tensor:
        return torch.from_numpy(positions.astype(np.int64)).to(device)

    request = Request(
        original=frozen_copy(model),
        fresh=_fresh(model, seed),
        data=examples,
        retain=indices(data.retain),
        forget=indices(data.forget),
        unseen=indices(data.unseen),
        train=config.train,
        seed=seed,
        world=World(device=device),
    )
    settings = method_config(config, method)
    with layer_draws(method, seed):
        return METHODS[type(settings)](request, settings).model


def _num_classes(model: nn.Module, data: ForgetData) -> int:
    """As many as the model has outputs: the data may lack a class."""
    device = next(model.parameters()).device
    _, height, width, channels = data.images.shape
    with torch.no_grad():
        num_classes = frozen_copy(model)(torch.zeros(2, channels, height, width, device=device)).shape[-1]
    outside = data.labels[(data.labels < 0) | (data.labels >= num_classes)]
    if len(outside):
        raise ValueError(f"label {outside[0]} is out of range: the model has outputs for 0 … {num_classes - 1}")
    return num_classes


def _check(data: ForgetData) -> None:
    sets = {"forget": data.forget, "retain": data.retain, "unseen": data.unseen}
    for name, positions in sets.items():
        if not len(positions):
            raise ValueError(f"the {name} set is empty: name at least one example")
        outside = positions[(positions < 0) | (positions >= len(data.images))]
        if len(outside):
            raise ValueError(f"{name}: index {outside[0]} is out of range, must be 0 … {len(data.images) - 1}")
    together = np.concatenate(list(sets.values()))
    values, counts = np.unique(together, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"example {values[counts > 1][0]} is listed twice: forget, retain and unseen must not meet")


def _check_new_weights(model: nn.Module) -> None:
    """Retrain must not start from anything that was learned."""
    for name, layer in model.named_modules():
        if list(layer.parameters(recurse=False)) and not _resets(layer):
            raise ValueError(
                f"retrain needs new weights, and {name or 'the model'} ({type(layer).__name__}) has parameters but no "
                f"reset_parameters() to draw them: give it one, or train a new model yourself"
            )


def _resets(layer: nn.Module) -> list[Callable[[], object]]:
    # torch's attention calls its own _reset_parameters
    found = [getattr(layer, name, None) for name in ("reset_parameters", "_reset_parameters")]
    return [reset for reset in found if callable(reset)]


def _fresh(model: nn.Module, seed: int) -> nn.Module:
    """The same architecture with new weights, by each layer's own initialisation."""
    fresh = trainable_copy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in fresh.modules():
            for reset in _resets(layer):
                reset()
    return fresh
