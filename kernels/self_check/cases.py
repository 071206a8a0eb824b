"""Inputs of every operation at given shapes, and calls of both implementations with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ungan_dist.kernels.augment import gather_augmented
from ungan_dist.kernels.critic import critic_loss, critic_sgd_step, generator_loss
from ungan_dist.kernels.critic.options import CriticOptions
from ungan_dist.kernels.energy_distance import energy_distance, energy_distance_1d
from ungan_dist.kernels.impl import Impl
from ungan_dist.kernels.log_odds import log_odds

KINK_MARGIN = 2e-5
"""Least size of a pre-activation: nearer to 0, rounding decides which side of a ReLU is differentiated."""
LARGE_STEP = 1024.0
"""Learning rate of the SGD step, so that the new weights show the gradient's error."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An operation with one draw of inputs."""

    run: Callable[[Impl, Sequence[Tensor]], tuple[Tensor, ...]]
    """Returns the value and its gradients, or for an operation without a derivative the value alone."""
    inputs: tuple[Tensor, ...]
    """In float64, each a number of the type that is judged."""
    is_exact: bool = False
    """Whether every implementation must give the same bits."""

    def cast(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return the inputs in a floating type."""
        return tuple(tensor.to(dtype) for tensor in self.inputs)


def make_case(
    operation: str, shapes: Mapping[str, Any], dtype: torch.dtype, device: torch.device | str, *, seed: int
) -> Case:
    """Draw the inputs of an operation.

    Args:
        operation: Name of the operation.
        shapes: Sizes and options, as in ``KernelUse.shapes``.
        dtype: Floating type that the inputs are rounded to.
        device: Device of the inputs.
        seed: Seed of the draw.
    """
    return _CASES[operation](shapes, _Draws(torch.Generator().manual_seed(seed), dtype, torch.device(device)))


@dataclass(frozen=True)
class _Draws:
    """Random float64 tensors on a device, each a number of the type that is judged."""

    generator: torch.Generator
    dtype: torch.dtype
    device: torch.device

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return self._round(mean + scale * torch.randn(shape, generator=self.generator, dtype=torch.float64))

    def uniform(self, *shape: int) -> Tensor:
        return self._round(torch.rand(shape, generator=self.generator, dtype=torch.float64))

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator).to(self.device)

    def _round(self, values: Tensor) -> Tensor:
        return values.to(self.dtype).to(self.device, torch.float64)


def _critic_inputs(shapes: Mapping[str, Any], draws: _Draws) -> tuple[list[Tensor], list[Tensor], Tensor]:
    batch, features, widths = shapes["batch"], shapes["features"], shapes["widths"]
    weights: list[Tensor] = []
    for inputs, outputs in zip((features, *widths), widths, strict=False):
        weights += [draws.normal(outputs, inputs, scale=inputs**-0.5), draws.normal(outputs, scale=0.25)]
    z = [draws.normal(batch, features) for _ in range(3)]
    epsilon = draws.uniform(batch, 1)
    for _ in range(20):
        mixed = epsilon * z[0] + (1 - epsilon) * z[1]
        near = [_is_near_kink(weights, rows) for rows in (*z, mixed)]
        redraw = [near[0] | near[3], near[1] | near[3], near[2]]
        if not any(bool(rows.any()) for rows in redraw):
            break
        for rows, where in zip(z, redraw, strict=True):
            rows[where] = draws.normal(int(where.sum()), features)
    return weights, z, epsilon


def _is_near_kink(weights: Sequence[Tensor], rows: Tensor) -> Tensor:
    w1, b1, w2, b2, _, _ = weights
    first = rows @ w1.T + b1
    second = first.relu() @ w2.T + b2
    return torch.minimum(first.abs().amin(1), second.abs().amin(1)) < KINK_MARGIN


def _options(shapes: Mapping[str, Any]) -> CriticOptions:
    names = ("penalty", "penalty_of", "penalty_weight", "mix_labels")
    return CriticOptions(**{name: shapes[name] for name in names if name in shapes})


def _with_gradients(value: Callable[..., Tensor], leaves: Sequence[Tensor], fixed: Sequence[Tensor]) -> list[Tensor]:
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    with torch.enable_grad():
        result = value(leaves, fixed)
        return [result.detach(), *torch.autograd.grad(result, leaves)]


def _critic_loss(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    weights, z, epsilon = _critic_inputs(shapes, draws)

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        def loss(leaves: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
            return critic_loss(leaves, *fixed, options=_options(shapes), impl=impl)

        return tuple(_with_gradients(loss, inputs[:6], inputs[6:]))

    return Case(run=run, inputs=(*weights, *z, epsilon))


def _critic_sgd_step(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    weights, z, epsilon = _critic_inputs(shapes, draws)

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        changed = [weight.clone() for weight in inputs[:6]]
        loss = critic_sgd_step(
            changed, *inputs[6:], options=_options(shapes), learning_rate=LARGE_STEP, weight_decay=1e-4, impl=impl
        )
        return (loss, *changed)

    return Case(run=run, inputs=(*weights, *z, epsilon))


def _generator_loss(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    weights, z, _ = _critic_inputs(shapes, draws)

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        def loss(leaves: Sequence[Tensor], fixed: Sequence[Tensor]) -> Tensor:
            z_unseen, z_forget, z_forget2 = leaves
            return generator_loss(fixed, z_unseen, z_forget, z_forget2, impl=impl)

        return tuple(_with_gradients(loss, inputs[6:], inputs[:6]))

    return Case(run=run, inputs=(*weights, *z))


def _energy_distance(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    x, y = draws.normal(shapes["n"], shapes["dim"]), draws.normal(shapes["m"], shapes["dim"], mean=1.0)

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(_with_gradients(lambda leaves, _: energy_distance(*leaves, impl=impl), inputs, ()))

    return Case(run=run, inputs=(x, y))


def _energy_distance_1d(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    num_groups = shapes["groups"]
    first, second = draws.normal(shapes["first"]), draws.normal(shapes["second"], mean=1.0)
    of_first, of_second = (draws.integers(num_groups, shapes[name]) for name in ("first", "second"))

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        def mean(leaves: Sequence[Tensor], _: Sequence[Tensor]) -> Tensor:
            x, y = leaves
            return energy_distance_1d(x, y, of_first, of_second, num_groups=num_groups, impl=impl).mean()

        return tuple(_with_gradients(mean, inputs, ()))

    return Case(run=run, inputs=(first, second))


def _gather_augmented(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    height, width, channels, batch = (shapes[name] for name in ("height", "width", "channels", "batch"))
    table = draws.normal(256, channels)
    images = draws.integers(256, batch, height, width, channels).to(torch.uint8)
    indices = draws.integers(batch, batch)

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        # the table is float32 in every run, also where the pictures are bfloat16
        dtype = torch.float32 if inputs[0].dtype == torch.float64 else inputs[0].dtype
        return (
            gather_augmented(
                images, indices, inputs[0].float(),
                seed=3, epoch=2, padding=shapes["padding"], flip=shapes["flip"], dtype=dtype, impl=impl,
            ),
        )  # fmt: skip

    return Case(run=run, inputs=(table,), is_exact=True)


def _log_odds(shapes: Mapping[str, Any], draws: _Draws) -> Case:
    models, batch, classes = (shapes[name] for name in ("models", "batch", "classes"))
    logits = draws.normal(models, batch, classes, scale=4.0)
    labels = draws.integers(classes, batch)

    def run(impl: Impl, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (log_odds(inputs[0], labels, impl=impl),)

    return Case(run=run, inputs=(logits,))


_CASES: dict[str, Callable[[Mapping[str, Any], _Draws], Case]] = {
    "critic_loss": _critic_loss,
    "critic_sgd_step": _critic_sgd_step,
    "energy_distance": _energy_distance,
    "energy_distance_1d": _energy_distance_1d,
    "gather_augmented": _gather_augmented,
    "generator_loss": _generator_loss,
    "log_odds": _log_odds,
}
