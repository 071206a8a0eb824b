"""The fused operations against their rivals: ``python benchmarks/kernels.py``, minutes on one CUDA GPU.

Refuses to time anything while the kernels' tests are red on this device. Without a GPU it writes operation counts of
the reference and "not measured yet" in place of every time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import torch
from harness import as_row, compare, graphed, peak_bytes, write
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ungan_dist.kernels import critic_loss, energy_distance
from ungan_dist.kernels.impl import Impl
from ungan_dist.kernels.testing import critic_inputs

BUDGET_S = 9 * 60
"""Rows that would begin later are left out, by name."""


class CountOperations(TorchDispatchMode):
    """How many operations reach the dispatcher: on a GPU nearly every one that is no view is a launch."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def critic_step(impl: Impl, width: int, batch: int, device: str) -> Callable[[], tuple[Tensor, ...]]:
    """One critic loss and its six gradients."""
    weights, batches, epsilon = critic_inputs(batch, 20, (width, width, width), device=device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    z_unseen, z_forget, z_forget2, epsilon = (z.float() for z in (*batches, epsilon))

    def step() -> tuple[Tensor, ...]:
        loss = critic_loss(
            leaves, z_unseen, z_forget, z_forget2, epsilon,
            penalty="squared", penalty_of="critic", penalty_weight=10.0, impl=impl,
        )  # fmt: skip
        return (loss.detach(), *torch.autograd.grad(loss, leaves))

    return step


def cdist_energy(x: Tensor, y: Tensor) -> Tensor:
    """The rival: three whole matrices of ``torch.cdist``."""
    n, m = len(x), len(y)
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return 2 * torch.cdist(x, y).mean() - within


def error(ours: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> float:
    """Largest difference, relative to the largest entry of its tensor."""
    return max(
        float((a.double() - b.double()).abs().max() / b.abs().max()) for a, b in zip(ours, reference, strict=True)
    )


def measure_critic(deadline: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for width in (128, 256):
        subject = f"critic step, widths {width}, batch 256"
        if time.monotonic() > deadline:
            rows.append({"subject": subject, "left_out": "the budget of time was spent"})
            continue
        fused, eager = critic_step("fused", width, 256, "cuda"), critic_step("reference", width, 256, "cuda")
        rivals = {"eager": eager, "eager in a CUDA graph": graphed(eager)}
        relative = error(fused(), eager())
        for arm, ours in (("fused", fused), ("fused in a CUDA graph", graphed(fused))):
            rows += [
                as_row(f"{subject}, {arm}", ratio, error=relative, peak_bytes=peak_bytes(fused))
                for ratio in compare(ours, rivals, num_pairs=50)
            ]
    return rows


def measure_energy(deadline: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for size in (8192, 65536):
        x, y = (torch.randn(size, 64, device="cuda", requires_grad=True) for _ in range(2))
        for backward in (False, True):
            subject = f"energy distance, {size} × {size} × 64, forward" + (" and backward" if backward else "")
            if time.monotonic() > deadline:
                rows.append({"subject": subject, "left_out": "the budget of time was spent"})
                continue

            def ours(x: Tensor = x, y: Tensor = y, backward: bool = backward) -> tuple[Tensor, ...]:
                return _run(lambda: energy_distance(x, y, impl="fused"), x, y, backward)

            def rival(x: Tensor = x, y: Tensor = y, backward: bool = backward) -> tuple[Tensor, ...]:
                return _run(lambda: cdist_energy(x, y), x, y, backward)

            memory = {"peak_bytes": peak_bytes(ours), "rival_peak_bytes": peak_bytes(rival)}
            (ratio,) = compare(ours, {"torch.cdist": rival}, num_pairs=20)
            rows.append(as_row(subject, ratio, error=error(ours(), rival()), **memory))
    return rows


def _run(value: Callable[[], Tensor], x: Tensor, y: Tensor, backward: bool) -> tuple[Tensor, ...]:
    with torch.set_grad_enabled(backward):
        result = value()
    return (result.detach(), *(torch.autograd.grad(result, (x, y)) if backward else ()))


def count_operations() -> list[dict[str, object]]:
    """What can be known without a GPU."""
    step = critic_step("reference", 128, 256, "cpu")
    with CountOperations() as counter:
        step()
    return [
        {
            "subject": "critic step, widths 128, batch 256",
            "reference_operations": counter.count,
            "fused_launches": 6,
            "time": "not measured yet",
        },
        {"subject": "energy distance, 65536 × 65536 × 64", "time": "not measured yet"},
    ]


def main() -> int:
    """Tests first, then times; the exit status is that of the tests."""
    if not torch.cuda.is_available():
        print(f"no CUDA GPU: counts only, in {write('kernels', count_operations())}")
        return 0
    deadline = time.monotonic() + BUDGET_S
    tests = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/kernels"]).returncode
    if tests:
        print("the kernels' tests are red on this device: nothing is timed", file=sys.stderr)
        return tests
    print(f"written to {write('kernels', [*measure_critic(deadline), *measure_energy(deadline)])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
