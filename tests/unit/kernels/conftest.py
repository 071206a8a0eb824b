"""Where fused kernels run: on a GPU, else in Triton's interpreter, which the conftest above has switched on."""

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
        pytest.skip("no CUDA GPU, and TRITON_INTERPRET was set to something else than 1")
    return "cpu"


@pytest.fixture
def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, where no interpreter stands in for a GPU."""
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
