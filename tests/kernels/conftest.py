"""Fused kernels run in Triton's interpreter unless there is a GPU; Triton reads the switch on its first import."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def fused_device() -> str:
    """Where fused operations run here."""
    if torch.cuda.is_available():
        return "cuda"
    import triton

    if not triton.knobs.runtime.interpret:
        pytest.skip("no CUDA GPU, and TRITON_INTERPRET=1 was not set before torch was imported")
    return "cpu"
