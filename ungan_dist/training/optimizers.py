"""Optimizers in torch's fastest form for their device, without its compiler."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def make_optimizer(kind: type[torch.optim.Optimizer], parameters: Iterable[Tensor], **options: Any) -> Any:
    """Create an optimizer, fused on CPUs and GPUs.

    A fused step reads gradients in the order of memory. They must have the strides of their parameters, as those that
    ``backward`` makes do.

    Examples:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> make_optimizer(torch.optim.SGD, [weight], lr=0.1).param_groups[0]["fused"]
        True
    """
    parameters = list(parameters)
    is_fused = all(one.device.type in ("cpu", "cuda") and one.is_floating_point() for one in parameters)
    return without_compiler(kind)(parameters, **options, fused=is_fused, foreach=not is_fused)  # pyright: ignore[reportCallIssue]


@functools.cache
def without_compiler(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return an optimizer's class whose methods do not import torch's compiler.

    Torch hides them from ``torch.compile`` by wrappers that import ``torch._dynamo``. That takes a process more than a
    second and 150 MB, and nothing here is compiled by it.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    # pickle would look the class up by its name, and find torch's
    methods["__reduce__"] = lambda self: (_create_empty, (kind,), self.__getstate__())
    return type(kind.__name__, (kind,), methods)


def _create_empty(kind: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Create an optimizer whose state is about to be set."""
    return object.__new__(without_compiler(kind))


def import_compiler(code: str | None) -> None:
    """Import torch's compiler where a step of torch's own optimizers may do so, so that no measured time includes it.

    Args:
        code: The folder of the user's code; None, and nothing is imported, if there is none.
    """
    if code is not None:
        importlib.import_module("torch._dynamo")
