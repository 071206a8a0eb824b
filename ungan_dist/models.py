"""The classifiers."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ungan_dist.config import ModelConfig
from ungan_dist.data import derive_seed
from ungan_dist.identity import content_hash


class SmallCNN(nn.Module):
    """Three convolutions with batch norm, global average pooling, one linear layer: ordered in ``stages``."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                _convolution(channels, width, pool=True),
                _convolution(width, 2 * width, pool=True),
                _convolution(2 * width, 4 * width, pool=False),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes)),
            ]
        )

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        for stage in self.stages:
            images = stage(images)
        return images


def _convolution(channels_in: int, channels_out: int, *, pool: bool) -> nn.Sequential:
    layers = [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


def _resnet18(channels: int, num_classes: int, *, cifar_stem: bool) -> nn.Module:
    """Torchvision's own ResNet-18; the CIFAR stem is 3×3 with stride 1 and no max-pool."""
    import torchvision  # four seconds that only a ResNet is worth

    model = torchvision.models.resnet18(weights=None, num_classes=num_classes)
    if cifar_stem:
        model.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return model


def build(config: ModelConfig, *, channels: int, num_classes: int, seed: int, device: torch.device) -> nn.Module:
    """A classifier with the initial weights of one seed; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("weights", seed))
        if config.factory is not None:
            model: nn.Module = _made_by(config.factory, channels, num_classes)
        elif config.name == "small_cnn":
            model = SmallCNN(channels, num_classes, config.width)
        else:
            model = _resnet18(channels, num_classes, cifar_stem=config.name == "resnet18_cifar")
    return model.to(device)


def _made_by(factory: str, channels: int, num_classes: int) -> nn.Module:
    """What the user's own function returns.

    Raises:
        ValueError: no such module or function, one that raises or exits, or that returns no module.
    """
    module, _, name = factory.partition(":")
    import_from(os.getcwd())
    with users_code(f"model.factory {factory}: importing {module}"):
        imported = importlib.import_module(module)
    function = getattr(imported, name, None)
    if not callable(function):
        place = getattr(imported, "__file__", None) or "Python itself"
        raise ValueError(f"model.factory {factory}: {module}, imported from {place}, has no function {name!r}")
    with users_code(f"model.factory {factory}, called with num_classes={num_classes} and perhaps channels={channels},"):
        takes = inspect.signature(function).parameters.values()
        takes_channels = any(one.name == "channels" or one.kind is one.VAR_KEYWORD for one in takes)
        model = function(num_classes=num_classes, **({"channels": channels} if takes_channels else {}))
    if not isinstance(model, nn.Module):
        raise ValueError(f"model.factory {factory} must return an nn.Module, got {type(model).__name__}")
    return model


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Runs code of the user's: what it prints goes to stderr, what it raises is told as theirs.

    Args:
        what: what is being run, the subject of the message.

    Raises:
        ValueError: it raised, or called ``sys.exit``: a command that ended as it says would look like a success.
    """
    try:
        # stdout is a command's own answer, which may be JSON
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what} needs {error.name}, which cannot be imported ({error}): run from the folder that holds it, or "
            f"install it; so must every worker find it"
        ) from error
    except SystemExit as error:
        raise ValueError(f"{what} called sys.exit({error.code!r}): leave that out") from error
    except Exception as error:  # whatever the user's code raises is told as theirs
        raise ValueError(f"{what} raised {type(error).__name__}: {error}") from error


def check_trainable(model: nn.Module) -> None:
    """Refuses what no optimizer can train."""
    name = type(model).__name__
    parameters = dict(model.named_parameters())
    lazy = [own for own, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        raise ValueError(
            f"{lazy[0]} of the model ({name}) has no shape yet, as in nn.LazyLinear: give its layer all sizes, or pass "
            f"one batch through the model where it is made"
        )
    if not parameters:
        raise ValueError(f"the model ({name}) has no parameters, so there is nothing to train or to unlearn")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(
            f"every parameter of the model ({name}) is frozen, {next(iter(parameters))} the first: set requires_grad "
            f"to True where the model was trained, in its head at least"
        )


def architecture(model: nn.Module) -> str:
    """Hash of names, shapes and types of all that a model holds, and of which of it is frozen."""
    state = {name: [list(value.shape), str(value.dtype)] for name, value in model.state_dict().items()}
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    return content_hash({"state": state, "frozen": frozen})


def import_from(folder: str | None) -> None:
    """Makes a user's modules importable in this process, after all that is installed.

    Args:
        folder: where they lie; none: nowhere in particular.
    """
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)


def stages(model: nn.Module) -> list[nn.Module]:
    """The parts of a classifier in the order of the forward pass, the last one its classifying layer."""
    if isinstance(model, SmallCNN):
        return list(model.stages)
    names = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")
    if all(hasattr(model, name) for name in names):
        stem, rest = names[:2], names[2:]
        return [nn.ModuleList(map(model.get_submodule, stem)), *map(model.get_submodule, rest)]
    # a model of the user's: its parts in the order of their definition, containers opened once
    parts = [part for child in model.children() for part in (child if isinstance(child, nn.Sequential) else [child])]
    parts = [part for part in parts if any(True for _ in part.parameters())]
    if not parts:
        raise ValueError(f"{type(model).__name__} has no parts with parameters: CF-k cannot tell its last ones")
    return parts


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters take no gradient."""
    duplicate = cast(nn.Module, copy.deepcopy(model))
    return duplicate.eval().requires_grad_(False)


def trainable_copy(model: nn.Module, like: nn.Module | None = None) -> nn.Module:
    """A copy in training mode; what the user's factory froze, as a pretrained backbone, is trained nowhere.

    Args:
        like: the same architecture as it was built; the copy's parameters take gradients where its do. None: the model.
    """
    duplicate = cast(nn.Module, copy.deepcopy(model)).train()
    for parameter, built in zip(duplicate.parameters(), (model if like is None else like).parameters(), strict=True):
        parameter.requires_grad_(built.requires_grad)
    return duplicate
