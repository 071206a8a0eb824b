"""Repeat the audit of an earlier forget request with the models of a later one: did the examples come back?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from ungan_dist.attack.estimates import EarlierRow
from ungan_dist.attack.evidence import Evidence
from ungan_dist.attack.gaps import Key, compare_attacks, measure_influences
from ungan_dist.attack.mann_whitney import average_influences
from ungan_dist.attack.verdicts import combine_attacks
from ungan_dist.config.methods import title_of

BEFORE = "original"
"""The method whose model the request begins with."""
RETURNS = {
    "reference": "before",
    "under-forgotten": "came back",
    "over-forgotten": "less than before",
    "equivalent": "no change",
}
"""Verdict on the change of the AUC → conclusion. Others are inconclusive."""


def audit_earlier(
    evidence: Sequence[Evidence], forget: Mapping[int, Int[np.ndarray, " forget"]], delta: float
) -> list[EarlierRow]:
    """Audit the examples of an earlier request, one row a method.

    The rule is that of the verdicts, with the same attacks, levels and margin. The gap to Retrain shows what is left of
    the examples. The change from the original, which has forgotten them already, shows what came back.

    Args:
        evidence: measurements of every finished method, seed and unlearning.
        forget: seed → positions of the earlier request's examples in the pool.
        delta: equivalence margin, > 0.
    """
    models: defaultdict[Key, list[Evidence]] = defaultdict(list)
    for item in sorted(evidence, key=lambda item: item.unlearning):
        models[item.method, item.seed].append(replace(item, forget=forget[item.seed]))
    methods = list(dict.fromkeys(item.method for item in evidence))
    seeds_of = {method: sorted(seed for one, seed in models if one == method) for method in methods}
    influences = {
        name: {key: average_influences(some) for key, some in of.items()}
        for name, of in measure_influences(models).items()
    }
    rows: list[EarlierRow] = []
    for method in methods:
        left = compare_attacks(method, seeds_of, influences)
        changed = compare_attacks(method, seeds_of, influences, reference=BEFORE)
        first = next(iter(left))
        rows.append(
            EarlierRow(
                method=method,
                title=title_of(method),
                auc=left[first].auc,
                gap=left[first].gap,
                outcome=combine_attacks(left, delta).outcome,
                change=changed[first].gap,
                returned=RETURNS.get(combine_attacks(changed, delta).outcome, "inconclusive"),
            )
        )
    return rows
