"""Precision of training: float32, float32 with TF32 products, or bfloat16 with float32 weights.

It holds for the forward and backward passes of classifiers in training. Weights, optimizers, the critic and the
evaluation stay in float32, without TF32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from ungan_dist.config.training import Precision

_CURRENT: ContextVar[Precision] = ContextVar("precision", default="fp32")


def check_precision(precision: Precision, device: str) -> None:
    """Check that a type of device can train in a precision.

    Raises:
        ValueError: it cannot.
    """
    if precision == "tf32" and device != "cuda":
        raise ValueError(f"train.precision tf32 needs a GPU, and models are trained on {device}: use fp32 or bf16")


@contextlib.contextmanager
def use_precision(precision: Precision) -> Iterator[None]:
    """Train in this precision inside the block.

    Torch's own default is TF32 for convolutions on a GPU; here, ``fp32`` turns it off.
    """
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    # the older of torch's two interfaces, because reading it raises once the newer one was used
    before = [switch.allow_tf32 for switch in switches]
    token = _CURRENT.set(precision)
    for switch in switches:
        switch.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        _CURRENT.reset(token)
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def in_precision(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a call of a model in the block's precision; its outputs are float32."""
    if _CURRENT.get() != "bf16":
        return call

    def cast(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            return call(images).float()

    return cast
