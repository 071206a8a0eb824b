"""Models made by the user's own code: call factories, check models, and draw new weights."""

from __future__ import annotations

import contextlib
import enum
import functools
import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ungan_dist.config.identity import content_hash
from ungan_dist.config.user_code import add_import_path, run_user_code
from ungan_dist.training.from_config import make_from_config
from ungan_dist.training.outputs import unwrap_logits

CHANNELS = ("channels", "in_chans")
"""Parameters that receive the number of channels."""
COLUMNS = ("features", "in_features")
"""Parameters that receive the number of columns, for tables alone: other models may have others of this name."""
PRETRAINED = ("pretrained", "pretrained_backbone")
WEIGHTS = ("weights", "weights_backbone", "encoder_weights")
"""Parameters with which libraries choose the weights to load, as flags and as names or members of an enumeration."""


def call_factory(
    factory: str,
    channels: int,
    num_classes: int,
    *,
    size: tuple[int, ...] | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Import and call the user's ``module:function``, or make a model by its name, as ``torchvision:NAME``.

    A module that has ``create_model(NAME)``, as timm has, makes models by their names. Those of transformers are made
    from their configs.

    Args:
        factory: The name.
        channels: Channels of the images, or columns of a table.
        num_classes: Number of classes.
        size: Height and width of the images, empty for a table; None if they are not known.
        options: Further arguments.

    Raises:
        ValueError: no such module or function, or it raises, exits, returns no module, or would load weights.
    """
    module, _, name = factory.partition(":")
    add_import_path(os.getcwd())
    if module == "transformers":
        return unwrap_logits(make_from_config(name, channels, num_classes, size, options or {}))
    with run_user_code(f"model.factory {factory}: importing {module}"):
        imported = importlib.import_module("torchvision.models" if module == "torchvision" else module)
    function = getattr(imported, name, None)
    if function is None and _makes_by_name(create := getattr(imported, "create_model", None)):
        function = functools.partial(create, name, pretrained=False, in_chans=channels)
    if not callable(function):
        place = getattr(imported, "__file__", None) or "Python itself"
        raise ValueError(f"model.factory {factory}: {module}, imported from {place}, has no function {name!r}")
    subject = f"model.factory {factory}"
    return call_function(function, subject, channels, num_classes, is_table=size == (), options=options)


def call_function(
    function: Callable[..., object],
    subject: str,
    channels: int,
    num_classes: int,
    *,
    is_table: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Call the user's function; the subject names it in messages.

    Args:
        function: The function.
        subject: Names it in messages.
        channels: Channels of the images, or columns of a table.
        num_classes: Number of classes.
        is_table: Whether the examples are rows of a table.
        options: Further arguments.

    Raises:
        ValueError: it raises, exits, returns no module, or would load weights.
    """
    with run_user_code(f"{subject}: reading its parameters"):
        parameters = inspect.signature(function).parameters
    _refuse_pretrained(parameters.values(), subject)
    # not because of **kwargs, which torchvision's functions pass on to models that take no channels
    names = (*CHANNELS, *(COLUMNS if is_table else ()))
    given: dict[str, Any] = {name: channels for name in names if name in parameters} | {"num_classes": num_classes}
    options = options or {}
    if refused := [name for name in options if name in (*given, *PRETRAINED, *WEIGHTS)]:
        raise ValueError(
            f"model.options cannot set {refused[0]} of {subject}: the run sets classes and channels, and every model "
            f"begins with new weights"
        )
    given |= options
    lacking = [one.name for one in parameters.values() if _is_required(one) and one.name not in given]
    if lacking:
        remedy = (
            "write module:NAME of the model, such as timm:resnet18"
            if _makes_by_name(function)
            else ("write a function of your own that calls it")
        )
        raise ValueError(
            f"{subject} needs {', '.join(lacking)}, and is called with num_classes and, if it names it, "
            f"{'features' if is_table else 'channels'}: "
            f"{remedy}"
        )
    with run_user_code(f"{subject}, called with {', '.join(f'{name}={value!r}' for name, value in given.items())},"):
        model = function(**given)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{subject} must return an nn.Module, got {type(model).__name__}")
    return unwrap_logits(model)


def read_model_options(entries: Iterable[str]) -> dict[str, Any]:
    """Read ``model.options``.

    Examples:
        >>> read_model_options(("depth=4", "act=gelu", "sizes=[1, 2]"))
        {'depth': 4, 'act': 'gelu', 'sizes': [1, 2]}
    """
    found: dict[str, Any] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def _makes_by_name(function: object) -> TypeGuard[Callable[..., object]]:
    """Whether it is a function as timm's ``create_model(model_name, pretrained, **options)``."""
    if not callable(function):
        return False
    with contextlib.suppress(ValueError, TypeError):  # it has no signature
        return next(iter(inspect.signature(function).parameters), "") == "model_name"
    return False


def _is_required(parameter: inspect.Parameter) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in kinds


def _refuse_pretrained(parameters: Iterable[inspect.Parameter], subject: str) -> None:
    """Refuse a function that loads weights unless it is called otherwise; they may have learned forget examples."""
    for one in parameters:
        is_named = isinstance(one.default, str | os.PathLike | enum.Enum) and bool(one.default)
        if (one.name in PRETRAINED and (one.default is True or is_named)) or (one.name in WEIGHTS and is_named):
            off = f"{one.name}={None if one.name in WEIGHTS else False}"
            raise ValueError(
                f"{subject} loads weights that were trained elsewhere, unless it is called with {off} (the default of "
                f"{one.name} is {one.default!r}). They may have learned the forget examples, and every model would "
                f"start from them. Write a function of your own that calls it with {off}, or with the weights you want"
            )


def check_trainable(model: nn.Module) -> None:
    """Check that the model has trainable parameters of known shape.

    Raises:
        ValueError: it has none.
    """
    name = type(model).__name__
    parameters = dict(model.named_parameters())
    lazy = [own for own, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        raise ValueError(
            f"{lazy[0]} of the model ({name}) has no shape yet, as in nn.LazyLinear: give its layer all sizes, or pass "
            f"one batch through the model in the factory"
        )
    if not parameters:
        raise ValueError(f"the model ({name}) has no parameters, so there is nothing to train or to unlearn")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(
            f"every parameter of the model ({name}) is frozen, {next(iter(parameters))} the first: set requires_grad "
            f"to True for the trained ones, at least for the head"
        )


def hash_architecture(model: nn.Module) -> str:
    """Hash the names, shapes and types of a model's state, the names of its frozen parameters, and its config.

    A model of the library transformers has a config, whose values, such as dropout rates, change no shape.
    """
    state = {
        name: [list(value.shape), str(value.dtype)] if isinstance(value, Tensor) else "extra state"
        for name, value in model.state_dict().items()
    }
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    facts: dict[str, Any] = {"state": state, "frozen": frozen}
    if config := next(filter(None, map(_get_config, model.modules())), None):
        facts["config"] = {
            name: repr(value)
            for name, value in sorted(config.to_dict().items())
            if name != "transformers_version" and not name.startswith("_")
        }
    return content_hash(facts)


def _get_config(module: nn.Module) -> Any:
    config = getattr(module, "config", None)
    return config if callable(getattr(config, "to_dict", None)) else None


def check_resettable(model: nn.Module) -> None:
    """Check that new weights can be drawn for every trained layer.

    Raises:
        ValueError: a layer with trained parameters has no ``reset_parameters()``.
    """
    for name, layer in model.named_modules():
        if _is_trained(layer) and not _reset_functions(layer):
            raise ValueError(
                f"retrain needs new weights, and {name or 'the model'} ({type(layer).__name__}) has parameters but no "
                f"reset_parameters() to draw them: add one, or train a new model yourself"
            )


def reset_weights(model: nn.Module, seed: int) -> None:
    """Draw new weights with each layer's own initialisation, in place; frozen layers and parameters keep theirs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in model.modules():
            if any(True for _ in layer.parameters(recurse=False)) and not _is_trained(layer):
                continue
            frozen = [(own, own.detach().clone()) for own in layer.parameters(recurse=False) if not own.requires_grad]
            for reset in _reset_functions(layer):
                reset()
            for own, before in frozen:
                own.data.copy_(before)


def _is_trained(layer: nn.Module) -> bool:
    """Whether the layer has parameters of its own that are not frozen; frozen ones did not learn from this data."""
    return any(parameter.requires_grad for parameter in layer.parameters(recurse=False))


def _reset_functions(layer: nn.Module) -> list[Callable[[], object]]:
    # nn.MultiheadAttention names its own _reset_parameters
    found = [getattr(layer, name, None) for name in ("reset_parameters", "_reset_parameters")]
    return [reset for reset in found if callable(reset)]
