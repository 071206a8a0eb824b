"""Copy models, also those that ``copy.deepcopy`` refuses."""

from __future__ import annotations

import copy
import gc
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import Tensor, nn

LOCKS: dict[type, Callable[[], object]] = {type(create()): create for create in (threading.Lock, threading.RLock)}


def copy_model(model: nn.Module, rebuild: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Return an independent copy of a model.

    Args:
        rebuild: builds the same architecture; the copy is then this new model with the state of the old one. Without
            it, the model is deep-copied. Tensors that it keeps from a forward pass lose their graph in the copy, and
            locks are replaced by new ones.

    Raises:
        ValueError: the model cannot be copied.

    Examples:
        >>> import torch
        >>> model = nn.Linear(3, 2)
        >>> model.kept = model(torch.ones(1, 3))
        >>> copy_model(model).kept.requires_grad
        False
    """
    if rebuild is not None:
        return _copy_state(model, rebuild())
    try:
        return cast(nn.Module, copy.deepcopy(model))
    except Exception:  # user code may refuse with anything
        replaced = dict(_replacements(model))
    try:
        return cast(nn.Module, copy.deepcopy(model, replaced))
    except Exception as error:
        raise ValueError(
            f"the model ({type(model).__name__}) cannot be copied ({type(error).__name__}: {error}): create what its "
            f"layers cannot copy, such as open files, outside the model; or audit it with --model, which builds it anew"
        ) from error


def _copy_state(model: nn.Module, duplicate: nn.Module) -> nn.Module:
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):  # extra state
            state[name] = copy.deepcopy(value)
    try:
        duplicate.load_state_dict(state)
    except Exception as error:  # user code may raise anything
        raise ValueError(
            f"the factory returned another {type(model).__name__} than before: let it return the same layers in every "
            f"call. {error}"
        ) from error
    return duplicate


def _replacements(model: nn.Module) -> Iterator[tuple[int, Any]]:
    """Yield the id and the copy of every object that deepcopy refuses and that has an obvious copy."""
    for one in _reach(model):
        if isinstance(one, Tensor) and not one.is_leaf:
            yield id(one), one.detach().clone()
        elif type(one) in LOCKS:
            yield id(one), LOCKS[type(one)]()
        elif isinstance(one, types.ModuleType):
            yield id(one), one


def _reach(root: object) -> Iterator[object]:
    """Yield every object that a deep copy of the root may visit."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # deepcopy shares these
        if not isinstance(one, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType):
            waiting += gc.get_referents(one)
