"""The compile check itself: it passes a kernel that fits and catches one that does not. No GPU needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
from ungan_dist.kernels.blocks import CRITIC_WEIGHTS_NARROW, Blocks
from ungan_dist.kernels.compile_check import with_dots, compile_variant
blocks = {blocks}
variant = with_dots("critic.fused_weights", "weights_kernel", "fp32", "tf32x3", blocks, SPLIT=128)
print(compile_variant(variant, {architecture}).complaint())
"""


def complaint(blocks, architecture):
    """In a process of its own: the compiler and the interpreter cannot share one."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(blocks=blocks, architecture=architecture)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_committed_block_passes():
    assert complaint("CRITIC_WEIGHTS_NARROW", 90) == "None"


def test_too_large_a_block_is_caught():
    assert "shared memory exceed" in complaint(
        "Blocks(rows=128, columns=256, inner=128, num_warps=8, num_stages=3)", 80
    )


def test_every_kernel_is_checked():
    """A kernel that no variant names would go unchecked."""
    import re
    from pathlib import Path

    from ungan_dist import kernels
    from ungan_dist.kernels.compile_check import variants

    folder = Path(kernels.__file__).parent
    launched = {name for path in folder.rglob("fused*.py") for name in re.findall(r"(\w+_kernel)\[", path.read_text())}
    assert launched == {variant.kernel for variant in variants()}
