"""Find what a model changes besides its outputs: settings of the process, its input, its state, random seeds."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ungan_dist.data.seeds import derive_seed

_Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _attribute(owner: Any, name: str) -> _Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


_cudnn: Any = torch.backends.cudnn
_mkldnn: Any = torch.backends.mkldnn
_matmul: Any = torch.backends.cuda.matmul
SETTINGS: dict[str, _Setting] = {
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the default device": (torch.get_default_device, torch.set_default_device),
    "the number of torch threads": (torch.get_num_threads, torch.set_num_threads),
    "whether gradients are computed": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.use_deterministic_algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "the precision of matrix products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch.backends.cuda.matmul.allow_tf32": _attribute(_matmul, "allow_tf32"),
    "torch.backends.cudnn.enabled": _attribute(_cudnn, "enabled"),
    "torch.backends.mkldnn.enabled": _attribute(_mkldnn, "enabled"),
    "torch.backends.cudnn.benchmark": _attribute(_cudnn, "benchmark"),
    "torch.backends.cudnn.deterministic": _attribute(_cudnn, "deterministic"),
    "torch.backends.cudnn.allow_tf32": _attribute(_cudnn, "allow_tf32"),
    "the current folder": (os.getcwd, os.chdir),
}
"""Settings of a process that its other models share: name → how to read and how to restore it."""
SPEED = ("cudnn", "precision", "tf32")
"""Settings that user code often makes for speed; they may change the last bits on a GPU, and nothing else."""


@contextlib.contextmanager
def watch_settings(subject: str, *, notes: list[str] | None = None) -> Iterator[None]:
    """Restore settings of the process that the block changes, also when it raises, and refuse the change.

    Args:
        subject: names the user's code.
        notes: receives changes of ``SPEED`` settings, which are then kept; defaults to refusing them too.

    Raises:
        ValueError: a setting was changed.
    """
    before = {name: read() for name, (read, _) in SETTINGS.items()}
    refused: list[str] = []
    try:
        yield
    finally:
        for name, (read, restore) in SETTINGS.items():
            now = read()
            if now == before[name]:
                continue
            if notes is not None and any(word in name for word in SPEED):
                notes.append(f"{subject} sets {name} to {now}: on a GPU, the last bits of results depend on it.")
                continue
            restore(before[name])
            refused.append(f"{name} of the whole process from {before[name]} to {now}")
    if refused:
        raise ValueError(
            f"{subject} changes {' and '.join(refused)}, which changes every other model too: leave that out"
        )


@contextlib.contextmanager
def seed_everything(seed: int, *, others: int | None = None) -> Iterator[None]:
    """Seed torch, NumPy and ``random`` inside the block, and restore their states.

    Args:
        seed: the seed.
        others: the seed of NumPy and ``random``; defaults to the same.
    """
    others = seed if others is None else others
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what the user's code draws from
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed("rehearsal", seed))
        random.seed(others)
        np.random.seed(others)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextlib.contextmanager
def watch_input(images: Tensor) -> Iterator[None]:
    """Refuse a block that modifies the images.

    Raises:
        ValueError: they were modified.
    """
    before = images.clone()
    yield
    if not torch.equal(before, images):
        raise ValueError(
            "the model modifies its input images in place, so the next model that receives them sees others: write "
            "x = x - m for x -= m, and inplace=False in its first layers"
        )


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a model's parameters and buffers."""
    both = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in both}


def changed_names(before: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Return the names of parameters and buffers that are not as before, new ones included."""
    after = state_of(model)
    return [
        name
        for name in {**before, **after}
        if name not in before or name not in after or not _is_same(before[name], after[name])
    ]


def _is_same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    both_nan = torch.isnan(one) & torch.isnan(other) if one.is_floating_point() else torch.zeros_like(one).bool()
    return bool(((one == other) | both_nan).all())
