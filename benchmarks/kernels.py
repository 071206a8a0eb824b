"""Time the fused operations against their rivals: ``python benchmarks/kernels.py``, at most ten minutes on one GPU.

Nothing is timed if the kernels' tests fail on this device. Without a GPU, only launches, operations and bytes are
counted. ``benchmarks/publish.py`` publishes the table.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from floors import TF32_PRODUCTS, bytes_per_s, critic_flops, energy_flops, flops_per_s
from harness import as_row, compare, graphed, peak_bytes, write
from torch import Tensor

from ungan_dist.kernels import energy_distance

BUDGET_S = 9 * 60
"""Seconds after which no further row is started."""
MAX_RELATIVE_ERROR = 1e-3
"""A rival with a larger error is not timed."""


def cdist_energy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the distance with three whole matrices of ``torch.cdist``."""
    n, m = len(x), len(y)
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return 2 * torch.cdist(x, y).mean() - within


def error(ours: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> float:
    """Return the largest difference, relative to the largest entry of its tensor."""
    return max(
        float((a.double() - b.double()).abs().max() / b.abs().max()) for a, b in zip(ours, reference, strict=True)
    )


def find_obstacle(name: str, rival: Callable[[], tuple[Tensor, ...]], eager: tuple[Tensor, ...]) -> str | None:
    """Return the reason for not timing a rival, or None if it runs and its gradients are right."""
    try:
        relative = error(rival(), eager)
    except Exception as failure:  # a compiler may raise anything; the message becomes the row's text
        return f"{name} does not run: {str(failure).strip().splitlines()[0]}"
    return None if relative <= MAX_RELATIVE_ERROR else f"{name} is wrong by {relative:.1e}"


def measure_critic(deadline: float) -> list[dict[str, object]]:
    """Time the critic's step and update."""
    from kernel_counts import critic_step

    rows: list[dict[str, object]] = []
    rate = flops_per_s() / TF32_PRODUCTS
    for width in (128, 256):
        subject = f"critic step, widths {width}, batch 256"
        if time.monotonic() > deadline:
            rows.append({"subject": subject, "left_out": "the time budget was spent"})
            continue
        fused, eager = critic_step("fused", width, 256, "cuda"), critic_step("reference", width, 256, "cuda")
        expected = eager()
        definition = critic_step("definition", width, 256, "cuda")
        rivals: dict[str, Callable[[], object]] = {
            "closed form": eager,
            "closed form in a CUDA graph": graphed(eager),
            "double backward": definition,
            "double backward in a CUDA graph": graphed(definition),
        }
        compiled = torch.compile(critic_step("reference", width, 256, "cuda"))
        reason = find_obstacle("closed form, torch.compile", compiled, expected)
        if reason is None:
            rivals["closed form, torch.compile"] = compiled
            rivals["closed form, torch.compile, in a CUDA graph"] = graphed(compiled)
        else:
            rows.append({"subject": subject, "left_out": reason})
        floor_ms = critic_flops(256, 20, (width, width, width)) / rate * 1e3
        measured = {"error": error(fused(), expected), "peak_bytes": peak_bytes(fused), "floor_ms": floor_ms}
        for arm, ours in (("fused", fused), ("fused in a CUDA graph", graphed(fused))):
            rows += [as_row(f"{subject}, {arm}", ratio, **measured) for ratio in compare(ours, rivals, num_pairs=50)]
        rows += measure_update(width, floor_ms)
    return rows


def measure_update(width: int, floor_ms: float) -> list[dict[str, object]]:
    """Time the critic's whole update: the loss, its gradients and the SGD step."""
    from kernel_counts import critic_update

    fused, eager = critic_update("fused", width, 256, "cuda"), critic_update("reference", width, 256, "cuda")
    # only the first steps are comparable: both start from the same weights
    measured = {"error": error(fused(), eager()), "peak_bytes": peak_bytes(fused), "floor_ms": floor_ms}
    rivals = {"closed form": eager, "closed form in a CUDA graph": graphed(eager)}
    ratios = compare(graphed(fused), rivals, num_pairs=50)
    return [as_row(f"critic update with SGD, widths {width}, batch 256", ratio, **measured) for ratio in ratios]


def measure_memory_bound(deadline: float) -> list[dict[str, object]]:
    """Time augmentation and log-odds. Their floor is a copy of the bytes that they read and write."""
    from kernel_counts import augment_step, log_odds_step

    rows: list[dict[str, object]] = []
    rate = bytes_per_s()
    subjects = {
        "augmented batch, 1024 × 32 × 32 × 3": (lambda impl: augment_step(impl, 1024, "cuda"), 1024 * 3072 * 5),
        "log-odds, 64 × 1024 × 100": (lambda impl: log_odds_step(impl, 64, 1024, 100, "cuda"), 64 * 1024 * 101 * 4),
    }
    for subject, (make, num_bytes) in subjects.items():
        if time.monotonic() > deadline:
            rows.append({"subject": subject, "left_out": "the time budget was spent"})
            continue
        fused, eager = make("fused"), make("reference")
        source = torch.empty(num_bytes // 2, dtype=torch.uint8, device="cuda")
        rivals = {"eager": eager, "a copy of as many bytes": graphed(source.clone)}
        measured = {
            "error": error(fused(), eager()),
            "peak_bytes": peak_bytes(fused),
            "floor_ms": num_bytes / rate * 1e3,
        }
        rows += [as_row(subject, ratio, **measured) for ratio in compare(graphed(fused), rivals, num_pairs=50)]
    return rows


def keops_energy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the distance with KeOps' symbolic matrices, in O(n + m) memory."""
    from pykeops.torch import LazyTensor  # pyright: ignore[reportMissingImports]

    def total(a: Tensor, b: Tensor) -> Tensor:
        squared = ((LazyTensor(a[:, None]) - LazyTensor(b[None])) ** 2).sum(-1)
        return squared.sqrt().sum(1).double().sum()

    n, m = len(x), len(y)
    return (2 * total(x, y) / (n * m) - total(x, x) / (n * (n - 1)) - total(y, y) / (m * (m - 1))).float()


def geomloss_energy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the distance with geomloss, whose means include each row's pair with itself."""
    from geomloss import SamplesLoss  # pyright: ignore[reportMissingImports]

    return 2 * SamplesLoss("energy", backend="online")(x, y)


def measure_energy(deadline: float) -> list[dict[str, object]]:
    """Time the energy distance, forward and backward."""
    rows: list[dict[str, object]] = []
    rate = flops_per_s() / TF32_PRODUCTS
    for size in (8192, 65536):
        x, y = (torch.randn(size, 64, device="cuda", requires_grad=True) for _ in range(2))
        for backward in (False, True):
            subject = f"energy distance, {size} × {size} × 64, forward" + (" and backward" if backward else "")
            if time.monotonic() > deadline:
                rows.append({"subject": subject, "left_out": "the time budget was spent"})
                continue

            def arm(
                value: Callable[[Tensor, Tensor], Tensor], x: Tensor = x, y: Tensor = y, backward: bool = backward
            ) -> Callable[[], tuple[Tensor, ...]]:
                return lambda: _run(lambda: value(x, y), x, y, backward)

            ours, cdist = arm(partial(energy_distance, impl="fused")), arm(cdist_energy)
            biased = arm(partial(energy_distance, unbiased=False, impl="fused"))
            measured = {
                "peak_bytes": peak_bytes(ours),
                "rival_peak_bytes": peak_bytes(cdist),
                "error": error(ours(), cdist()),
                "floor_ms": energy_flops(size, size, 64, backward=backward) / rate * 1e3,
            }
            rivals: dict[str, Callable[[], object]] = {"torch.cdist": cdist}
            others = {"KeOps": (keops_energy, cdist, rivals), "geomloss": (geomloss_energy, biased, {})}
            for name, (value, expected, beside) in others.items():
                module = {"KeOps": "pykeops"}.get(name, name)
                missing = importlib.util.find_spec(module) is None
                reason = f"{name} is not installed" if missing else find_obstacle(name, arm(value), expected())
                if reason is None:
                    beside[name] = arm(value)
                else:
                    rows.append({"subject": subject, "left_out": reason})
            rows += [as_row(subject, ratio, **measured) for ratio in compare(ours, rivals, num_pairs=20)]
            if others["geomloss"][2]:
                ratios = compare(biased, others["geomloss"][2], num_pairs=20)
                rows += [as_row(f"{subject}, biased", ratio, **measured) for ratio in ratios]
    return rows


def _run(value: Callable[[], Tensor], x: Tensor, y: Tensor, backward: bool) -> tuple[Tensor, ...]:
    with torch.set_grad_enabled(backward):
        result = value()
    return (result.detach(), *(torch.autograd.grad(result, (x, y)) if backward else ()))


def counts() -> list[dict[str, object]]:
    """Count in another process, because the interpreter must be enabled before Triton is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "kernel_counts.py")],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> int:
    """Run the tests, then the timings. Return the exit status of the tests."""
    if not torch.cuda.is_available():
        print(f"no CUDA GPU: counts only, in {write('kernels', [], counts=counts())}")
        return 0
    deadline = time.monotonic() + BUDGET_S
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/unit/kernels"]).returncode
    if tests:
        print("the kernels' tests fail on this device: nothing is timed", file=sys.stderr)
        return tests
    rows = [*measure_critic(deadline), *measure_energy(deadline), *measure_memory_bound(deadline)]
    print(f"written to {write('kernels', rows, counts=counts())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
