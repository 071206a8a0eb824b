"""Make the model of an existing run, whose weights are to be read; code of the run is called only if it is trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from ungan_dist.config.training import ModelConfig
from ungan_dist.training.factories import call_function, hash_architecture
from ungan_dist.training.first_layer import fit_first_layer
from ungan_dist.training.models import build
from ungan_dist.training.outputs import unwrap_logits

GivenModel = nn.Module | Callable[..., nn.Module] | str


def make_model(
    config: ModelConfig,
    *,
    architecture: str,
    channels: int,
    num_classes: int,
    size: tuple[int, ...] | None = None,
    given: GivenModel | None = None,
    trust: bool = False,
) -> nn.Module:
    """Make the model of a run on the CPU; its weights are then replaced.

    Args:
        config: The model's config in the record of the run.
        architecture: The architecture in the record; empty for a built-in model.
        channels: Channels of the images, or columns of a table.
        num_classes: Number of classes.
        size: Height and width of the images, empty for a table; without it, no first layer is fitted to the channels.
        given: The module itself, the function that makes it, or the function's name ``module:function``.
        trust: Import and call the function that the record names.

    Raises:
        ValueError: The record names the user's code, and it was neither given nor trusted; or the code fails, or makes
            a model of another architecture.
    """
    if config.factory is not None and given is None and not trust:
        raise ValueError(
            f"the model of this run is made by {config.factory}. Opening a run executes no code: name the function "
            f"again (--model {config.factory} on the command line, model=… in Python), or trust the run's own record "
            f"(--trust, trust=True)"
        )
    if isinstance(given, nn.Module):
        model = unwrap_logits(given.cpu())
    elif given is None or isinstance(given, str):
        config = config if given is None else dataclasses.replace(config, factory=given)
        device = torch.device("cpu")
        model = build(config, channels=channels, num_classes=num_classes, seed=0, device=device, size=size)
    else:
        subject = f"model {getattr(given, '__name__', given)}"
        model = call_function(given, subject, channels, num_classes, is_table=size == ())
        if size is not None:
            fit_first_layer(model, channels, size)
    if architecture and hash_architecture(model) != architecture:
        raise ValueError(
            f"the model ({type(model).__name__}) has another architecture than when the run was made: name the "
            f"function that made it, in the version of then"
        )
    return model
