"""Simulate how often the intervals of the AUC and of the gap to Retrain cover, for every size of the forget set.

    python benchmarks/interval_coverage.py [NUM_AUDITS]     write benchmarks/results/coverage.json

An audit is simulated from binormal log-odds. Each example has a part of its own, which all models share, and a part
that is new in every model. The log-odds of forget examples are ``leak`` standard deviations higher, and a seed shifts
its models by ``spread`` standard deviations. Interval, estimate and truth:

- with one or two seeds, these models on other examples;
- with three seeds or more, other models on other examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.stats import norm
from trials import parse_num_audits

from ungan_dist import store
from ungan_dist.attack.intervals import SEEDS_FOR_T
from ungan_dist.attack.mann_whitney import Influence, auc_interval, gap_interval, measure_influence

RESULTS = Path(__file__).parent / "results/coverage.json"
NUM_AUDITS = 600
SIZES = (1, 2, 3, 5, 10, 50, 400)
"""Numbers of forget examples."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of audit."""

    num_forget: int
    num_seeds: int
    forget: Literal["list", "drawn"] = "list"
    """Whether the seeds share their forget examples."""
    leak: float = 0.0
    """Shift of the forget examples' log-odds in the unlearned model, in standard deviations."""
    spread: float = 0.0
    """Standard deviation of the leak between seeds."""
    own: float = 0.5
    """Share of the variance that an example has in common in all models."""
    num_non_members: int = 300


def cases() -> Iterator[Case]:
    """List the kinds of audits."""
    for num_forget, num_seeds, leak, own in product(SIZES, (1, 2, 3, 5), (0.0, 1.5), (0.0, 0.9)):
        for forget, spread in [("list", 0.0), ("drawn", 0.0), ("list", 0.3)]:
            if num_seeds > 1 or (forget, spread) == ("list", 0.0):
                yield Case(
                    num_forget=num_forget, num_seeds=num_seeds, forget=forget, leak=leak, spread=spread, own=own
                )  # fmt: skip


def simulate(case: Case, num_audits: int, seed: int = 0) -> dict[str, float]:
    """Return how often the 95 % interval of the AUC and the 90 % interval of the gap cover their truths."""
    generator = np.random.default_rng([seed, case.num_forget, case.num_seeds])
    n, m, s = case.num_forget, case.num_non_members, case.num_seeds
    num_drawn = n * s if case.forget == "drawn" else n
    covered = {"auc": 0, "gap": 0}
    for _ in range(num_audits):
        shared = generator.standard_normal(num_drawn + m) * np.sqrt(case.own)
        new = generator.standard_normal((2, s, num_drawn + m)) * np.sqrt(1 - case.own)
        leaks = case.leak + case.spread * generator.standard_normal(s)
        aucs: list[Influence] = []
        gaps: list[Influence] = []
        for k in range(s):
            forget = np.arange(n) + (k * n if case.forget == "drawn" else 0)
            rest = np.arange(num_drawn, num_drawn + m)
            scores = shared + new[:, k]
            scores[0, forget] += leaks[k]
            unlearned, retrained = (measure_influence(one, forget, rest) for one in scores)
            aucs.append(unlearned)
            gaps.append(unlearned.minus(retrained))
        if s < SEEDS_FOR_T:
            truth = float(norm.cdf(leaks / np.sqrt(2)).mean())
        else:
            truth = float(norm.cdf(case.leak / np.sqrt(2 + case.spread**2)))
        found = auc_interval(aucs, 0.95), gap_interval(gaps, 0.90, num_models=2)
        for name, interval, value in zip(covered, found, (truth, truth - 0.5), strict=True):
            covered[name] += interval.low <= value <= interval.high
    return {name: count / num_audits for name, count in covered.items()}


def main() -> None:
    """Simulate every case and write the results."""
    num_audits, path = parse_num_audits(__doc__, NUM_AUDITS, RESULTS)
    results = [asdict(case) | simulate(case, num_audits) for case in cases()]
    least = {name: min(results, key=lambda result: result[name]) for name in ("auc", "gap")}
    means = {name: float(np.mean([result[name] for result in results])) for name in least}
    store.write_json(
        path,
        {
            "nominal": {"auc": 0.95, "gap": 0.90},
            "num_audits": num_audits,
            "mean": means,
            "least": {name: result[name] for name, result in least.items()},
            "cases": results,
        },
    )
    for name, result in least.items():
        print(f"{name}: least coverage {result[name]:.3f} at {result}")


if __name__ == "__main__":
    main()
