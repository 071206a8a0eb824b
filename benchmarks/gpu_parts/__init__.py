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
    "machine": Part("machine:describe", 20),
    "kernels": Part("kernel_checks:check_all", 60),
    "digits": Part("audits:kill_and_resume_digits", 55),
    "stem": Part("training_steps:imagenet_stem", 115),
    "cifar-stem": Part("training_steps:cifar_stem", 40),
    "operations": Part("operations:time_all", 40),
    "unlearning": Part("unlearning:time_ungan", 40),
    "shadows": Part("shadow_models:compare_with_eager", 50),
    "ffcv": Part("loading:time_upload", 35),
    "paper": Part("audits:excerpt_paper", 65),
    "memcheck": Part("memcheck:check_critic", 15),
}
