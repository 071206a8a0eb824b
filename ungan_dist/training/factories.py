"""Models made by the user's own code."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator

from torch import nn
from torch.nn.parameter import is_lazy

from ungan_dist.config.identity import content_hash


def call_factory(factory: str, channels: int, num_classes: int) -> nn.Module:
    """What the user's own function returns.

    Raises:
        ValueError: no such module or function, one that raises or exits, or that returns no module.
    """
    module, _, name = factory.partition(":")
    add_import_path(os.getcwd())
    with run_user_code(f"model.factory {factory}: importing {module}"):
        imported = importlib.import_module(module)
    function = getattr(imported, name, None)
    if not callable(function):
        place = getattr(imported, "__file__", None) or "Python itself"
        raise ValueError(f"model.factory {factory}: {module}, imported from {place}, has no function {name!r}")
    with run_user_code(f"model.factory {factory}, called with num_classes={num_classes}, channels={channels},"):
        takes = inspect.signature(function).parameters.values()
        takes_channels = any(one.name == "channels" or one.kind is one.VAR_KEYWORD for one in takes)
        model = function(num_classes=num_classes, **({"channels": channels} if takes_channels else {}))
    if not isinstance(model, nn.Module):
        raise ValueError(f"model.factory {factory} must return an nn.Module, got {type(model).__name__}")
    return model


@contextlib.contextmanager
def run_user_code(what: str) -> Iterator[None]:
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


def add_import_path(folder: str | None) -> None:
    """Makes a user's modules importable in this process, after all that is installed.

    Args:
        folder: where they lie; none: nowhere in particular.
    """
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)
