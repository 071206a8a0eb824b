"""Distances between the outputs of two models on the forget set, as papers on unlearning report them.

No verdict takes them into account: they compare a method with one model, and say nothing about an attack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ungan_dist.attack.evidence import Evidence

ZRF, JS, ACTIVATION = "zrf", "js_to_retrain", "activation_distance_to_retrain"
REFERENCE = "retrain"

Probabilities = Float[np.ndarray, "examples classes"]


def jensen_shannon(first: Probabilities, second: Probabilities) -> float:
    """Return the Jensen-Shannon divergence in nats, mean over the examples: from 0 to ln 2.

    Examples:
        >>> jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
        0.2157...
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (first, second))
    middle = (first + second) / 2
    return float(np.mean(_divergence(first, middle) + _divergence(second, middle)) / 2)


def _divergence(of: Probabilities, to: Probabilities) -> Float[np.ndarray, " examples"]:
    ratio = np.divide(of, to, out=np.ones_like(of), where=of > 0)
    return (of * np.log(ratio)).sum(axis=1)


def activation_distance(first: Probabilities, second: Probabilities) -> float:
    """Return the Euclidean distance of the probabilities, mean over the examples: from 0 to √2 (Golatkar et al. 2021).

    Examples:
        >>> activation_distance(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
        1.414...
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return float(np.sqrt(np.square(difference).sum(axis=1)).mean())


def measure_distances(evidence: Sequence[Evidence]) -> dict[str, dict[str, list[float]]]:
    """Measure the distances of every method, by name, with one value for each seed that has both outputs.

    ``zrf`` is 1 − JS to a model with initial weights (Chundawat et al. 2023). The others compare with Retrain of the
    same seed. Several unlearnings of one original are averaged.

    Args:
        evidence: measurements of every finished method, seed and unlearning.
    """
    references = {
        (item.seed, item.unlearning): item.outputs[0]
        for item in evidence
        if item.method == REFERENCE and item.outputs is not None
    }
    by_seed: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for item in sorted(evidence, key=lambda item: (item.seed, item.unlearning)):
        if item.outputs is None:
            continue
        model, initial = item.outputs
        values = {ZRF: 1 - jensen_shannon(model, initial)}
        retrained = references.get((item.seed, item.unlearning), references.get((item.seed, 0)))
        if retrained is not None and item.method != REFERENCE:
            values |= {JS: jensen_shannon(model, retrained), ACTIVATION: activation_distance(model, retrained)}
        for name, value in values.items():
            by_seed[item.method, name, item.seed].append(value)
    found: dict[str, dict[str, list[float]]] = {}
    for (method, name, _), some in by_seed.items():
        found.setdefault(method, {}).setdefault(name, []).append(sum(some) / len(some))
    return found
