"""Whether Triton works here, on the smallest kernel of a run: ``python -m ungan_dist.kernels.self_test WAY``.

``run`` launches log-odds, on the GPU or in the interpreter (with TRITON_INTERPRET=1), and compares it with its
definition; ``compile`` compiles it for sm_90, which needs no GPU.
"""

from __future__ import annotations

import sys

import torch

from ungan_dist.kernels import log_odds


def run(device: str) -> str:
    """Launches the kernel; says what it ran as.

    Raises:
        RuntimeError: another result than the reference's.
    """
    logits = torch.linspace(-4, 4, 3 * 5 * 7).reshape(3, 5, 7).to(device)
    labels = torch.arange(5).to(device)
    fused, reference = (log_odds(logits, labels, impl=impl) for impl in ("fused", "reference"))
    if not torch.allclose(fused, reference, rtol=1e-5, atol=1e-5):
        error = float((fused - reference).abs().max())
        raise RuntimeError(f"the fused log-odds differ from the reference's by {error:.3g}")
    return "a kernel on the GPU" if device == "cuda" else "a kernel in the interpreter"


def compile_only() -> str:
    """Compiles the kernel for a GPU that need not be here.

    Raises:
        RuntimeError: it needs more than a block has.
    """
    from ungan_dist.kernels import compile_check

    variant = next(one for one in compile_check.variants() if one.kernel == "log_odds_kernel")
    complaint = compile_check.compile_variant(variant, 90).complaint()
    if complaint:
        raise RuntimeError(complaint)
    return "a kernel compiled for sm_90"


def main() -> int:
    """Prints the version and what worked; what did not ends in a traceback."""
    import triton

    match sys.argv[1:]:
        case ["run"]:
            worked = run("cuda" if torch.cuda.is_available() else "cpu")
        case ["compile"]:
            worked = compile_only()
        case _:
            raise ValueError(f"self_test takes run or compile, got {sys.argv[1:]}")
    print(f"Triton {triton.__version__}, {worked}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
