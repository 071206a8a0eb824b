"""Moments over shadow models: what a Gaussian fit needs, merged and taken apart without reading a value twice."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from ungan_dist.attack.arrays import Values, describe, to_numpy


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of each group. They suffice for a Gaussian fit and can be merged."""

    num_values: Int[np.ndarray, "*groups"]
    mean: Float64[np.ndarray, "*groups"]
    squares: Float64[np.ndarray, "*groups"]


def compute_moments(values: Values, chosen: Values) -> Moments:
    """Compute moments over the chosen models, in two passes to avoid cancellation if the mean is far from zero.

    Both arguments are [models, …].
    """
    values, chosen = _to_pair(values, chosen)
    num_values = chosen.sum(0)
    weights = chosen.astype(np.float64)  # once, because each product with bools would convert them again
    mean = np.einsum("k...,k...->...", values, weights) / np.maximum(num_values, 1)
    deviations = values - mean
    deviations *= weights
    return Moments(num_values, mean, np.einsum("k...,k...->...", deviations, deviations))


def compute_in_and_out_moments(values: Values, is_in: Values) -> tuple[Moments, Moments]:
    """Compute moments over the IN models and over the OUT models of each column, in two passes for both.

    Both arguments are [models, columns]. OUT sums are totals minus IN sums. OUT squares below 1e-16 of the IN group's
    are lost, and none is negative.
    """
    values, is_in = _to_pair(values, is_in)
    return sum_in_and_out(values, is_in.astype(np.float64), np.empty_like(values))


def sum_in_and_out(
    values: Float64[np.ndarray, "models columns"],
    weights: Float64[np.ndarray, "models columns"],
    scratch: Float64[np.ndarray, "models columns"],
) -> tuple[Moments, Moments]:
    """Compute the moments of ``compute_in_and_out_moments`` without new memory.

    Args:
        values: log-odds.
        weights: 1 for IN, 0 for OUT.
        scratch: overwritten.
    """
    num_in = weights.sum(0).astype(np.int64)  # a sum of bools takes twice as long
    num_out = len(values) - num_in
    sum_in = np.einsum("kc,kc->c", values, weights)
    mean_in = sum_in / np.maximum(num_in, 1)
    mean_out = (values.sum(0) - sum_in) / np.maximum(num_out, 1)
    deviations = np.multiply(weights, mean_in - mean_out, out=scratch)
    deviations += mean_out
    np.subtract(values, deviations, out=deviations)
    deviations *= deviations
    squares_in = np.einsum("kc,kc->c", deviations, weights)
    squares_out = np.maximum(deviations.sum(0) - squares_in, 0.0)
    return Moments(num_in, mean_in, squares_in), Moments(num_out, mean_out, squares_out)


def merge_moments(parts: Moments, axis: int | tuple[int, ...] = 0) -> Moments:
    """Merge the moments of the groups along an axis into those of their union.

    Source: Chan, Golub & LeVeque 1979.
    """
    num_values = parts.num_values.sum(axis, keepdims=True)
    mean = (parts.num_values * parts.mean).sum(axis, keepdims=True) / np.maximum(num_values, 1)
    squares = (parts.squares + parts.num_values * (parts.mean - mean) ** 2).sum(axis)
    return Moments(num_values.squeeze(axis), mean.squeeze(axis), squares)


def remove_value(moments: Moments, value: Float64[np.ndarray, " columns"]) -> Moments:
    """Remove one value from each group: the inverse of merging it (Chan, Golub & LeVeque 1979).

    Examples:
        >>> left = remove_value(Moments(np.array([3]), np.array([2.0]), np.array([2.0])), np.array([3.0]))
        >>> left.num_values, left.mean, left.squares
        (array([2]), array([1.5]), array([0.5]))
    """
    rest = moments.num_values - 1
    away = value - moments.mean
    squares = moments.squares - away**2 * moments.num_values / rest
    return Moments(rest, moments.mean - away / rest, np.maximum(squares, 0.0))


def _to_pair(values: Values, chosen: Values) -> tuple[Float64[np.ndarray, ...], Bool[np.ndarray, ...]]:
    numbers, mask = to_numpy("values", values).astype(np.float64, copy=False), to_numpy("the mask", chosen)
    if numbers.shape != mask.shape or mask.dtype != np.bool_:
        raise ValueError(f"the mask must be bool of shape {list(numbers.shape)}, got {describe(chosen)}")
    return numbers, mask
