"""One torch thread, shapes checked on every call, and hypothesis without a clock."""

from __future__ import annotations

import ctypes
import os

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook


def has_cuda_device() -> bool:
    """As the driver says: torch, which could be asked as well, imports Triton."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


if not has_cuda_device():
    # Read when Triton is first imported, torch does so: fused kernels run in its interpreter. `auto` does not care.
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; the last bits depend on it

# Before any test imports the package: modules imported earlier would stay unchecked.
install_import_hook("ungan_dist", "shape_checks.checked")

settings.register_profile("ungan_dist", deadline=None, max_examples=50)
settings.load_profile("ungan_dist")


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of audits in this process have no figures: drawing them takes most of a small audit's time."""
    monkeypatch.setattr("ungan_dist.report.figures.figures", lambda _: [])
