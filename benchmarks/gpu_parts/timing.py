"""Compare two arms that take turns, within a time budget."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from harness import Ratio, graphed, milliseconds, summarise

LEAST_PAIRS, MOST_PAIRS = 5, 50

Arm = Callable[[], object]


def compare_for(seconds: float, rival_name: str, rival: Arm, ours: Arm, *, calls: int = 1) -> Ratio:
    """Time A B A B … for some seconds, but at least five pairs. The first run of each arm is not counted.

    Args:
        seconds: Time budget.
        rival_name: Name of the rival in the result.
        rival: The arm to compare with.
        ours: The arm under test.
        calls: Calls in each timing; times are those of one call.
    """
    arms = [_repeat(arm, calls) for arm in (rival, ours)]
    for arm in arms:
        arm()
    end, pairs = time.monotonic() + seconds, list[tuple[float, ...]]()
    while len(pairs) < LEAST_PAIRS or (time.monotonic() < end and len(pairs) < MOST_PAIRS):
        pairs.append(tuple(milliseconds(arm) / calls for arm in arms))
    return summarise(rival_name, np.array(pairs))


def captured(step: Arm) -> Arm:
    """Capture a step in a CUDA graph; without a GPU, return it as it is."""
    return graphed(step) if torch.cuda.is_available() else step


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _repeat(arm: Arm, calls: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(calls):
            arm()

    return repeated
