"""Judge on one device whether an operation's fused form is right and faster at given shapes.

A run takes a fused kernel only after both gates. Nothing here starts a process: a caller that must survive a crash or a
hang of the kernel calls ``judge`` in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from ungan_dist.kernels.self_check.cases import Case, make_case
from ungan_dist.kernels.self_check.guards import WroteOutside, guarded_buffers

BUDGETS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest error of a value or gradient in relative norm. float32 dots are three TF32 products."""
REFERENCE_FACTOR = 2.0
"""An error of up to so many times the reference's own in the same type is allowed too."""
NUM_DRAWS = 3
NUM_PAIRS = 20
LOWER, UPPER = 5, 14
"""Places of the interval's ends among the sorted ratios of 20 pairs: it covers the median with 95.9 %."""
LEAST_GAIN = 1.1
"""The interval's lower end must exceed it."""
CALLS_PER_TIMING = 10

Clock = Callable[[Callable[[], object]], float]
"""Returns the seconds of a call."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the self-check found for one operation."""

    choice: Literal["reference", "fused"]
    reason: str
    error: float | None = None
    """Largest error in relative norm; None if the fused form did not run."""
    budget: float | None = None
    """The largest error allowed."""
    ratio: float | None = None
    """Median of reference time ÷ fused time; None if it was not timed."""
    interval: tuple[float, float] | None = None
    """95 % interval of the median ratio."""


class _Wrong(Exception):
    """The fused form fails the first gate."""


@dataclass
class _Accuracy:
    """The largest error so far, relative to its budget."""

    error: float = 0.0
    budget: float = 0.0


def judge(
    operation: str,
    shapes: Mapping[str, Any],
    dtype: torch.dtype,
    device: torch.device | str,
    clock: Clock | None = None,
) -> Verdict:
    """Compare the fused form of an operation with its definition: first its results, then its time.

    Args:
        operation: Name of the operation.
        shapes: Sizes and options of the calls, as in ``KernelUse.shapes``.
        dtype: float32 or bfloat16.
        device: Device of the tensors.
        clock: Measures one call; defaults to the wall time of ten calls with the device synchronised.

    Returns:
        ``fused`` only if every result is within the budget and the interval of the ratio lies above 1.1.
    """
    device = torch.device(device)
    accuracy = _Accuracy(budget=BUDGETS[dtype])
    try:
        for seed in range(NUM_DRAWS):
            _check_draw(make_case(operation, shapes, dtype, device, seed=seed), dtype, accuracy)
        _check_nan(make_case(operation, shapes, dtype, device, seed=NUM_DRAWS), dtype)
    except (_Wrong, WroteOutside) as error:
        return Verdict(choice="reference", reason=str(error), error=accuracy.error, budget=accuracy.budget)
    except Exception as error:  # such as a compiler that is missing; the reason names it
        words = " ".join(str(error).split())[:200]
        return Verdict(choice="reference", reason=f"the fused form raised {type(error).__name__}: {words}")
    case = make_case(operation, shapes, dtype, device, seed=0)
    ratio, interval = _compare_speed(case, dtype, clock or device_clock(device))
    is_faster = interval[0] > LEAST_GAIN
    measured = f"{ratio:.2f} × the reference's speed, interval {interval[0]:.2f} to {interval[1]:.2f}"
    return Verdict(
        choice="fused" if is_faster else "reference",
        reason=f"right, and {measured}" + ("" if is_faster else f": not above {LEAST_GAIN}"),
        error=accuracy.error,
        budget=accuracy.budget,
        ratio=ratio,
        interval=interval,
    )


def device_clock(device: torch.device) -> Clock:
    """Return a clock that waits for the device before and after ten calls."""

    def measure(call: Callable[[], object]) -> float:
        _synchronise(device)
        start = time.perf_counter()
        for _ in range(CALLS_PER_TIMING):
            call()
        _synchronise(device)
        return (time.perf_counter() - start) / CALLS_PER_TIMING

    return measure


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _check_draw(case: Case, dtype: torch.dtype, accuracy: _Accuracy) -> None:
    inputs = case.cast(dtype)
    low = case.run("reference", inputs)
    exact = low if case.is_exact else case.run("reference", case.inputs)
    with guarded_buffers() as buffers:
        fused = case.run("fused", inputs)
    if not buffers:
        raise _Wrong("the fused form made no buffer that could be guarded")
    again = case.run("fused", inputs)
    if not all(torch.equal(first, second) for first, second in zip(fused, again, strict=True)):
        raise _Wrong("two calls gave different bits")
    for mine, rounded, truth in zip(fused, low, exact, strict=True):
        error = _relative_error(mine, truth)
        budget = 0.0 if case.is_exact else max(BUDGETS[dtype], REFERENCE_FACTOR * _relative_error(rounded, truth))
        if not error <= budget:
            accuracy.error, accuracy.budget = error, budget
            raise _Wrong(f"wrong: its error {error:.2g} in relative norm exceeds {budget:.2g}")
        if error >= accuracy.error:
            accuracy.error, accuracy.budget = error, budget


def _relative_error(found: Tensor, truth: Tensor) -> float:
    size = float(truth.double().norm())
    return float((found.double() - truth.double()).norm()) / (size or 1.0)


def _check_nan(case: Case, dtype: torch.dtype) -> None:
    """Check that NaN in an input comes out wherever it comes out of the reference's value."""
    inputs = [tensor.clone() for tensor in case.cast(dtype)]
    for tensor in inputs[-2:]:
        tensor.view(-1)[0] = torch.nan
    truth, found = (case.run(impl, inputs)[0] for impl in ("reference", "fused"))
    if bool((truth.isnan() & ~found.isnan()).any()):
        raise _Wrong("wrong: it hides NaN in its input")


def _compare_speed(case: Case, dtype: torch.dtype, clock: Clock) -> tuple[float, tuple[float, float]]:
    inputs = case.cast(dtype)

    def reference() -> object:
        return case.run("reference", inputs)

    def fused() -> object:
        return case.run("fused", inputs)

    for call in (reference, fused):  # its first call may compile and allocate
        clock(call)
    ratios: list[float] = []
    for pair in range(NUM_PAIRS):
        order = (reference, fused) if pair % 2 else (fused, reference)
        seconds = {call: clock(call) for call in order}
        ratios.append(seconds[reference] / seconds[fused])
    ratios.sort()
    return median(ratios), (ratios[LOWER], ratios[UPPER])
