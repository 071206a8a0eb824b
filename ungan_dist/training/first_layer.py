"""Fit the first layer of a user's model to the channels of the images, where it is plain which layer that is."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch
from torch import Tensor, nn


class _ReachedConvolution(Exception):
    """Ends a forward pass."""


def fit_first_layer(model: nn.Module, channels: int, size: tuple[int, ...]) -> str:
    """Replace the convolution that the images enter, if it takes another number of channels. Its weights are new.

    A model that has no such convolution, or brings the images to its number of channels itself, is left as it is.

    Args:
        model: The model, changed in place.
        channels: Channels of the images.
        size: Height and width of the images; empty for rows of a table.

    Returns:
        A note on what was replaced, for the report; empty if nothing was.

    Raises:
        ValueError: The convolution takes other channels, and cannot be replaced.
    """
    convolution = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if convolution is None or convolution.in_channels == channels:
        return ""
    entered = _find_entered(model, channels, size)
    if entered is None or entered.in_channels == channels:
        return ""
    places = [name for name, layer in model.named_modules(remove_duplicate=False) if layer is entered]
    obstacle = _find_obstacle(entered, places)
    if obstacle:
        raise ValueError(
            f"the images have {channels} channel(s), and the first layer of the model ({places[0]}) takes "
            f"{entered.in_channels}. It cannot be replaced, because {obstacle}: let the factory take channels=, and "
            f"build that layer with it"
        )
    parent, _, name = places[0].rpartition(".")
    setattr(model.get_submodule(parent), name, _make_like(entered, channels))
    return (
        f"The first layer of the model, {places[0]}, took {entered.in_channels} channels. It was replaced by one for "
        f"the {channels} channel(s) of the images, with new weights."
    )


def _find_entered(model: nn.Module, channels: int, size: tuple[int, ...]) -> nn.Conv2d | None:
    """Return the first convolution of a forward pass if it receives the images' channels; the pass ends there."""
    images = torch.zeros(1, channels, *size)
    entered: list[nn.Conv2d] = []

    def look(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(layer, nn.Conv2d):
            given = arguments[0] if arguments else None
            if isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] == channels:
                entered.append(layer)
            raise _ReachedConvolution

    hooks = [layer.register_forward_pre_hook(look) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            contextlib.redirect_stdout(sys.stderr),  # stdout belongs to the command
            contextlib.suppress(Exception, SystemExit),  # of the user's code, which the rehearsal names
        ):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return entered[0] if entered else None


def _find_obstacle(layer: nn.Conv2d, places: list[str]) -> str:
    if type(layer) is not nn.Conv2d:
        return f"it is a {type(layer).__name__}, not a plain Conv2d"
    if len(places) != 1 or not places[0]:
        return "it stands in several places" if places[0] else "it is the model itself"
    if layer.groups != 1:
        return f"it has {layer.groups} groups"
    if any((layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)):  # pyright: ignore[reportPrivateUsage]
        return "it has hooks, such as those of weight_norm"
    if not all(parameter.requires_grad for parameter in layer.parameters()):
        return "its weights are frozen"
    return ""


def _make_like(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    made = nn.Conv2d(
        channels,
        layer.out_channels,
        layer.kernel_size,  # pyright: ignore[reportArgumentType]
        stride=layer.stride,  # pyright: ignore[reportArgumentType]
        padding=layer.padding,  # pyright: ignore[reportArgumentType]
        dilation=layer.dilation,  # pyright: ignore[reportArgumentType]
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    return made.to(layer.weight.dtype)
