"""A judge whose kernels fail as kernels fail on a GPU: by a crash, a hang, or a compiler that is missing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from ungan_dist.kernels.self_check import Verdict, judge
from ungan_dist.kernels.uses import KernelUse


def _miss_compiler() -> None:
    raise ImportError("Failed to find C compiler")


FAULTS: dict[int, Callable[[], object]] = {
    5: lambda: os.kill(os.getpid(), signal.SIGSEGV),
    6: lambda: time.sleep(600),
    7: _miss_compiler,
}
"""Batch of a use of log_odds → what its kernel does."""


def judge_with_faults(use: KernelUse, device: str) -> Verdict:
    """Judge log_odds; some batch sizes have a fault."""
    from ungan_dist.kernels.log_odds import fused

    intact = fused.log_odds

    def kernel(logits: Tensor, labels: Tensor) -> Tensor:
        FAULTS.get(len(labels), lambda: None)()
        return intact(logits, labels)

    with mock.patch.object(fused, "log_odds", kernel):
        return judge(use.operation, use.shapes, torch.float32, device, _time_once)


def _time_once(call: Callable[[], object]) -> float:
    """In the interpreter a call takes milliseconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
