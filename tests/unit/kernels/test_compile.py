"""The compile check finds blocks that do not fit, and covers every kernel; `make check` runs it on all of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ungan_dist import kernels

pytest.importorskip("triton")

SCRIPT = """
import json
from ungan_dist.kernels.blocks import Blocks
from ungan_dist.kernels.compile_check import compile_variant, with_dots
blocks = {
    "too large": Blocks(rows=64, columns=64, inner=32, num_warps=4, num_stages=8),
    "too few registers": Blocks(rows=32, columns=32, inner=32, num_warps=4, max_registers=32),
    "too few blocks": Blocks(rows=32, columns=32, inner=32, num_warps=4, min_resident=9),
}
print(json.dumps({
    name: compile_variant(
        with_dots("critic.fused_weights", "weights_kernel", "fp32", "tf32x3", block, SPLIT=128), 80
    ).find_violation()
    for name, block in blocks.items()
}))
"""


@pytest.mark.process
def test_blocks_that_do_not_fit_are_found():
    """Runs in a second process, because the compiler and the interpreter cannot share one."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    complaints = json.loads(done.stdout)
    assert "bytes of shared memory exceed" in complaints["too large"]
    assert "fewer than 9" in complaints["too few blocks"]
    assert "bytes of registers spill to the stack" in complaints["too few registers"]


@pytest.mark.process
def test_it_refuses_the_interpreter():
    """There everything would compile to nothing, and pass."""
    done = subprocess.run(
        [sys.executable, "-m", "ungan_dist.kernels.compile_check"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "unset TRITON_INTERPRET" in done.stderr


def test_every_kernel_and_every_line_of_the_table_is_checked():
    """A kernel or a block size that no variant names would go unchecked."""
    from ungan_dist.kernels import blocks
    from ungan_dist.kernels.compile_check import variants

    folder = Path(kernels.__file__).parent
    launched = {name for path in folder.rglob("fused*.py") for name in re.findall(r"(\w+_kernel)\[", path.read_text())}
    assert launched == {variant.kernel for variant in variants()}
    tables = {value for value in vars(blocks).values() if isinstance(value, blocks.Blocks)}
    assert len(tables) == 7
    checked = {
        (
            *(variant.constants.get(name) for name in ("ROWS", "COLUMNS")),
            *(variant.num_warps, variant.num_stages, variant.min_resident),
        )
        for variant in variants()
    }
    assert {(t.rows, t.columns, t.num_warps, t.num_stages, t.min_resident) for t in tables} <= checked
