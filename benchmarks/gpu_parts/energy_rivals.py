"""The energy distance by other libraries, those that are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from kernel_steps import Step
from torch import Tensor

Value = Callable[[Tensor, Tensor], Tensor]


def cdist_energy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the distance with three whole matrices of ``torch.cdist``."""
    n, m = len(x), len(y)
    within = torch.cdist(x, x).sum() / (n * (n - 1)) + torch.cdist(y, y).sum() / (m * (m - 1))
    return 2 * torch.cdist(x, y).mean() - within


def keops_energy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the distance with KeOps' symbolic matrices, in O(n + m) memory."""
    from pykeops.torch import LazyTensor  # pyright: ignore[reportMissingImports]

    def total(a: Tensor, b: Tensor) -> Tensor:
        squared = ((LazyTensor(a[:, None]) - LazyTensor(b[None])) ** 2).sum(-1)
        return squared.sqrt().sum(1).double().sum()

    n, m = len(x), len(y)
    return (2 * total(x, y) / (n * m) - total(x, x) / (n * (n - 1)) - total(y, y) / (m * (m - 1))).float()


def geomloss_energy(x: Tensor, y: Tensor) -> Tensor:
    """Compute the distance with geomloss, whose means within a batch count each point's pair with itself."""
    from geomloss import SamplesLoss  # pyright: ignore[reportMissingImports]

    return 2 * SamplesLoss("energy", backend="online" if HAS_KEOPS else "tensorized")(x, y)


HAS_KEOPS = importlib.util.find_spec("pykeops") is not None
RIVALS: dict[str, Value] = {"torch.cdist": cdist_energy}
if HAS_KEOPS:
    RIVALS["KeOps"] = keops_energy
if importlib.util.find_spec("geomloss") is not None:
    RIVALS["geomloss"] = geomloss_energy


def value_and_gradients(value: Value, size: int, dim: int, device: str) -> Step:
    """Make a step on the inputs of ``energy_step``: a distance and both of its gradients."""
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(size, dim, generator=generator).to(device).requires_grad_() for _ in range(2)]

    def step() -> tuple[Tensor, ...]:
        result = value(*leaves)
        return (result.detach(), *torch.autograd.grad(result, leaves))

    return step
