"""Compare fused operations with float64 within an error budget, in guarded buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from tensor_cores import sums_are_truncated
from torch import Tensor

from ungan_dist.kernels.self_check.guards import guarded_buffers


def assert_within_budget(
    fused: Tensor, low: Tensor, exact: Tensor, name: str, *, magnitude: float = 0.0, low_error: float = 0.0
) -> None:
    """Assert error ≤ 2 × (low-precision error of the reference + rounding), as largest differences over the tensor.

    Tensor cores truncate sums where the reference rounds them, which errs to one side: there 6 × is allowed.

    Args:
        fused: the result to check.
        low: the reference in the same precision.
        exact: the reference in float64.
        magnitude: size of the summands if the result cancels; rounding is relative to the larger of both.
        low_error: the reference's error, if known better than from these tensors.
    """
    if fused.shape != exact.shape:
        raise AssertionError(f"{name}: shape {list(fused.shape)}, expected {list(exact.shape)}")
    size = max(float(exact.abs().max()), magnitude)
    low_error = max(low_error, float((low.double() - exact).abs().max()))
    budget = (6 if sums_are_truncated() else 2) * (low_error + torch.finfo(low.dtype).eps * size)
    error = float((fused.double() - exact).abs().max())
    if not error <= budget:
        raise AssertionError(f"{name}: error {error:.3g} exceeds the budget {budget:.3g} (largest entry {size:.3g})")


def critic_inputs(
    batch: int, features: int, widths: Sequence[int], *, scale: float = 1.0, seed: int = 0, device: str = "cpu"
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return float64 weights, the three batches and ε, with scaled inputs."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).float().double().to(device)

    weights: list[Tensor] = []
    for inputs, outputs in zip((features, *widths), widths, strict=False):
        weights += [(draw(outputs, inputs) / inputs**0.5).float().double(), (draw(outputs) / 4).float().double()]
    batches = [(scale * draw(batch, features)).float().double() for _ in range(3)]
    epsilon = torch.rand(batch, 1, generator=generator).double().to(device)
    return weights, batches, epsilon


def value_and_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute a scalar function and its gradients on copies of the inputs in one dtype."""
    leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in inputs]
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


def low_precision_errors(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], dtype: torch.dtype, *, num_draws: int = 8
) -> list[float]:
    """Compute the largest error of the value and of each gradient over a few equivalent problems.

    One draw of rounding is not enough. The inputs are multiplied by 1, 1 + 1/1024, …, which keeps equal entries equal
    and changes the rounding.
    """
    errors: list[list[float]] = []
    for draw in range(num_draws):
        scaled = [(tensor * (1 + draw / 1024)).to(dtype).double() for tensor in inputs]
        low, low_gradients = value_and_gradients(function, scaled, dtype)
        exact, gradients = value_and_gradients(function, scaled, torch.float64)
        pairs = zip((low, *low_gradients), (exact, *gradients), strict=True)
        errors.append([float((a.double() - b).abs().max()) for a, b in pairs])
    return [max(draws) for draws in zip(*errors, strict=True)]


def compare_fused(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    magnitude: float = 0.0,
    gradient_magnitude: float = 0.0,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Assert that the fused value and gradients of ``function(impl, *inputs)`` are within the budget.

    Args:
        magnitude: as in ``assert_within_budget``, of the value.
        gradient_magnitude: the same of the gradients.

    Returns:
        The result of the fused operation in float32.
    """

    def reference(*leaves: Tensor) -> Tensor:
        return function("reference", *leaves)

    low, exact = (value_and_gradients(reference, inputs, dtype) for dtype in (torch.float32, torch.float64))
    errors = low_precision_errors(reference, inputs, torch.float32)
    with guarded_buffers() as buffers:
        fused = value_and_gradients(lambda *leaves: function("fused", *leaves), inputs, torch.float32)
    if not buffers:
        raise AssertionError("the fused operation made no buffer that could be guarded")
    assert_within_budget(fused[0], low[0], exact[0], "value", magnitude=magnitude, low_error=errors[0])
    for index, gradients in enumerate(zip(fused[1], low[1], exact[1], strict=True)):
        name, low_error = f"gradient {index}", errors[index + 1]
        assert_within_budget(*gradients, name, magnitude=gradient_magnitude, low_error=low_error)
    return fused
