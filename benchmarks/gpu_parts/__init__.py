"""The parts of ``benchmarks/gpu.py``, in the order in which they run."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A part, and the time that it may take."""

    function: str
    """Module of this package, and function."""
    limit_s: float
    """Seconds, with the start of its process."""


PARTS = {
    "machine": Part("machine:describe", 25),
    "kernels": Part("kernel_checks:check_all", 65),
    "stem": Part("training_steps:imagenet_stem", 120),
    "cifar-stem": Part("training_steps:cifar_stem", 45),
}
