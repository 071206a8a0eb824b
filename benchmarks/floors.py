"""The least time that an operation's arithmetic or traffic can take on the GPU at hand, from rates measured on it.

Floating-point operations are those of the dots alone, each as three TF32 products; rates are those of one large
matrix product of torch's in TF32 and of one large copy. A kernel bound by something else, such as square roots or a
launch, stays far above such a floor: the fraction says how far.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import graphed

TF32_PRODUCTS = 3
"""Of one float32 dot."""


def critic_flops(batch: int, features: int, widths: tuple[int, int, int]) -> int:
    """One paired critic step: four groups of rows forward, the penalty's chain there and back, four groups back, and
    the weight gradients of five groups."""
    layers = [2 * batch * inputs * outputs for inputs, outputs in zip((features, *widths), widths, strict=False)]
    return (4 + 2 + 5) * sum(layers) + 4 * sum(layers[1:])


def energy_flops(n: int, m: int, dim: int, *, backward: bool) -> int:
    """All pairs between the samples and one triangle within each; backward, distances again and both sides' pull."""
    cross, within = n * m, (n * (n - 1) + m * (m - 1)) // 2
    forward = 2 * dim * (cross + within)
    return forward if not backward else 2 * forward + 2 * dim * 2 * (cross + within)


def flops_per_s() -> float:
    """Of dots in TF32, by torch's own product of 8,192 × 8,192 matrices."""
    size = 8192
    left, right = (torch.randn(size, size, device="cuda") for _ in range(2))
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return 2 * size**3 / _seconds(lambda: torch.mm(left, right))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def bytes_per_s() -> float:
    """Read plus written, of a copy of one GiB."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    return 2 * source.numel() / _seconds(graphed(source.clone))


def _seconds(step: Callable[[], object]) -> float:
    """The median of 20 runs, after three that are not counted."""
    times: list[float] = []
    for _ in range(23):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times[3:])[10]
