"""Shape checks of the critic's operations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ungan_dist.kernels.critic.options import CriticOptions


def check_batches(**batches: Tensor) -> None:
    (first, expected), *_ = ((name, batch.shape) for name, batch in batches.items())
    if len(expected) != 2 or expected[0] == 0:
        raise ValueError(f"{first} must be [batch, columns] with at least one row, got {list(expected)}")
    for name, batch in batches.items():
        if batch.shape != expected:
            raise ValueError(f"{name} must have {first}'s shape {list(expected)}, got {list(batch.shape)}")


def check_weights(weights: Sequence[Tensor], z: Tensor) -> None:
    shapes = [list(weight.shape) for weight in weights]
    width = z.shape[1]
    if len(shapes) != 6:
        raise ValueError(f"weights must be W1, b1, W2, b2, W3, b3, got {len(shapes)} tensors")
    for layer in range(3):
        matrix, bias = shapes[2 * layer : 2 * layer + 2]
        if len(matrix) != 2 or matrix[1] != width or bias != matrix[:1]:
            raise ValueError(
                f"layer {layer + 1} must have a matrix [out, {width}] and a bias [out], got {matrix} and {bias}"
            )
        width = matrix[0]


def check_penalty(
    weights: Sequence[Tensor],
    z_unseen: Tensor,
    z_forget: Tensor,
    z_forget2: Tensor,
    epsilon: Tensor,
    options: CriticOptions,
    z_unseen2: Tensor | None,
) -> None:
    if (z_unseen2 is not None) != (options.surrogate == "energy"):
        given = "none" if z_unseen2 is None else "one"
        raise ValueError(f"z_unseen2 is needed only with surrogate='energy', got {given} with {options.surrogate!r}")
    second = {} if z_unseen2 is None else {"z_unseen2": z_unseen2}
    check_batches(z_unseen=z_unseen, z_forget=z_forget, z_forget2=z_forget2, **second)
    check_weights(weights, z_forget)
    if list(epsilon.shape) != [len(z_forget), 1]:
        raise ValueError(f"epsilon must be [batch, 1] = [{len(z_forget)}, 1], got {list(epsilon.shape)}")
    if not options.mix_labels and z_forget.shape[1] % 2:
        raise ValueError(
            f"mix_labels=False needs as many label columns as outputs, got {z_forget.shape[1]} columns in all"
        )


def check_num_rows(z_unseen: Tensor, options: CriticOptions) -> None:
    if options.estimator == "all_pairs" and options.surrogate == "energy" and len(z_unseen) < 2:
        raise ValueError("estimator='all_pairs' with surrogate='energy' needs at least 2 rows a batch, got 1")
