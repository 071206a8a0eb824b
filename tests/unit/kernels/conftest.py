"""The device of fused kernels: a GPU, or the CPU with Triton's interpreter, which the parent conftest enables."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def fused_device() -> str:
    """Device of the fused operations."""
    if torch.cuda.is_available():
        return "cuda"
    import triton

    if not triton.knobs.runtime.interpret:
        pytest.skip("no CUDA GPU, and TRITON_INTERPRET was set to something else than 1")
    return "cpu"
