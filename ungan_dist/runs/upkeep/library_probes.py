"""Try a library in a process of its own: ``python -m ungan_dist.runs.upkeep.library_probes NAME``.

A broken library can abort the process or hang. A probe prints its result as the last line, or raises.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import metadata

NOT_INSTALLED = 10
"""Exit code if the library is not installed."""


def has_gpu() -> bool:
    """Ask the CUDA driver for devices, without importing torch."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def probe_torch() -> str:
    """Compute a gradient with a known value, on the GPU if there is one."""
    import torch

    device = "cuda" if has_gpu() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"the driver has a GPU, but torch {torch.__version__} cannot use it")
    x = torch.arange(6.0, device=device).reshape(2, 3).requires_grad_()
    (x @ x.T).sum().backward()
    gradient = None if x.grad is None else x.grad.tolist()
    if gradient != [[6.0, 10.0, 14.0]] * 2:
        raise RuntimeError(f"a gradient on {device!r} is wrong: {gradient}")
    where = f"CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}" if device == "cuda" else "CPU, no GPU found"
    return f"{torch.__version__} computes ({where})"


def probe_triton() -> str:
    """Run a fused kernel, in Triton's interpreter if there is no GPU."""
    device = "cuda" if has_gpu() else "cpu"
    # read when torch imports Triton
    os.environ["TRITON_INTERPRET"] = "0" if device == "cuda" else "1"
    import torch

    from ungan_dist.kernels import log_odds

    logits = torch.linspace(-3, 3, 24, device=device).reshape(2, 3, 4)
    labels = torch.tensor([0, 2, 3], device=device)
    fused = log_odds(logits, labels, impl="fused")
    torch.testing.assert_close(fused, log_odds(logits, labels, impl="reference"), rtol=1e-5, atol=1e-5)
    return f"{metadata.version('triton')} runs a kernel ({'GPU' if device == 'cuda' else 'interpreter, no GPU found'})"


def probe_ffcv() -> str:
    """Import FFCV with its native library."""
    from ungan_dist.data.ffcv.availability import import_ffcv

    import_ffcv()
    return f"{metadata.version('ffcv')} can be imported"


PROBES = {"torch": probe_torch, "triton": probe_triton, "ffcv": probe_ffcv}


def main(name: str) -> int:
    """Run a probe; return the exit code."""
    try:
        print(PROBES[name]())
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return NOT_INSTALLED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
