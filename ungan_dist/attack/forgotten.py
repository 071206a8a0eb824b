"""The most and the least forgotten examples of a method. They name single examples, so they are personal data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Evidence


class ForgottenExample(NamedTuple):
    """A forget example, and how much like a member it looks to a method's models."""

    example: int
    """Index in the data set."""
    score: float
    """LiRA's log-likelihood ratio, higher = member; mean over the seeds that forget the example."""
    p: float
    """The membership p value of the same seeds, their median."""
    seeds: int
    """Number of these seeds."""


def rank_forgotten(evidence: Sequence[Evidence], method: str) -> list[ForgottenExample]:
    """Rank the forget examples of a method, the least forgotten first: the one with the highest score.

    Raises:
        ValueError: There is no such method, or the audit has no scores of single examples.
    """
    items = [item for item in evidence if item.method == method]
    if not items:
        known = ", ".join(dict.fromkeys(item.method for item in evidence)) or "none"
        raise ValueError(f"the report has no results of {method!r}; it has {known}")
    scores: dict[int, list[float]] = {}
    p_values: dict[int, list[float]] = {}
    for item in items:
        if item.p_values is None:
            raise ValueError("a quick audit has no scores of single examples: run it without --attack.quick")
        for example, position, p in zip(item.p_values.ids, item.forget, item.p_values.p, strict=True):
            scores.setdefault(int(example), []).append(float(item.scores[position]))
            p_values.setdefault(int(example), []).append(float(p))
    found = [
        ForgottenExample(example, float(np.mean(values)), float(np.median(p_values[example])), len(values))
        for example, values in scores.items()
    ]
    return sorted(found, key=lambda one: (-one.score, one.example))
