"""Compute the least time that an operation's arithmetic or memory traffic can take on this GPU.

Only the dot products count, each as three TF32 products. The rates are measured: one large TF32 product of torch, and
one large copy. A kernel that is bound by something else, such as square roots or launches, stays far above its floor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import graphed, milliseconds

TF32_PRODUCTS = 3
"""TF32 products per float32 dot."""


def critic_flops(batch: int, features: int, widths: tuple[int, int, int]) -> int:
    """Count the operations of one paired critic step.

    Four groups of rows forward, the chain of the penalty in both directions, four groups backward, and the weight
    gradients of five groups.
    """
    layers = [2 * batch * inputs * outputs for inputs, outputs in zip((features, *widths), widths, strict=False)]
    return (4 + 2 + 5) * sum(layers) + 4 * sum(layers[1:])


def energy_flops(n: int, m: int, dim: int, *, backward: bool) -> int:
    """Count the operations of an energy distance: all pairs between the samples, and one triangle within each.

    The backward pass computes the distances again and the gradients of both samples.
    """
    cross, within = n * m, (n * (n - 1) + m * (m - 1)) // 2
    forward = 2 * dim * (cross + within)
    return forward if not backward else 2 * forward + 2 * dim * 2 * (cross + within)


def flops_per_s(device: str = "cuda", size: int = 8192) -> float:
    """Measure the rate of TF32 dots by torch's product of two square matrices."""
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return 2 * size**3 / _seconds(lambda: torch.mm(left, right))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def bytes_per_s(device: str = "cuda", num_bytes: int = 2**30) -> float:
    """Measure the rate of memory traffic, reads plus writes, by a copy."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device)
    return 2 * num_bytes / _seconds(graphed(source.clone) if device == "cuda" else source.clone)


def _seconds(step: Callable[[], object]) -> float:
    """Return the median of 20 runs, after three warm-up runs."""
    return sorted([milliseconds(step) for _ in range(23)][3:])[10] / 1e3
