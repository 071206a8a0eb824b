"""Simulate how often audits err that are looked at once, or several times until they are decided.

    python benchmarks/sequential.py [NUM_AUDITS]     write benchmarks/results/sequential.json

An audit has four correlated attacks. Each has a gap under every seed, drawn around a true gap. A look has more seeds or
more shadow models; new shadow models change every gap, also its truth where it drifts. The verdict is that of
``combine_attacks``, wrong where it contradicts the true gaps of its own look. Rules to stop by:

- once: one look at all seeds;
- looks: the first look that decides, with the levels of ``--until decided``;
- equal: the same, with equal shares of the error;
- uncorrected: the same, with every look at 90 %.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student_t
from trials import parse_num_audits

from ungan_dist import store
from ungan_dist.attack.evidence import AttackResult, Interval
from ungan_dist.attack.looks import list_levels
from ungan_dist.attack.verdicts import VERDICT_LEVEL, combine_attacks, trace_level

RESULTS = Path(__file__).parent / "results/sequential.json"
NUM_AUDITS = 4000
DELTA = 0.05
ATTACKS = ("lira", "rmia", "calibrated_loss", "loss")
SEEDS = (3, 6, 12, 24, 24, 24)
"""Seeds of each look; the last two have twice and four times the shadow models."""
SPREAD = 0.04
"""Standard deviation of a gap between seeds."""
ALIKE = 0.6
"""Correlation of two attacks, and of one attack before and after shadow models are added."""
RULES = ("once", "looks", "equal", "uncorrected")


@dataclass(frozen=True, kw_only=True)
class Case:
    """True gaps of an audit."""

    name: str
    gaps: tuple[float, float, float, float]
    """Of each attack, in units of δ."""
    drift: tuple[float, float] = (1.0, 1.0)
    """Factors of the gaps with twice and four times the shadow models."""

    def truth(self, look: int) -> Float[np.ndarray, " attacks"]:
        """Return the true gaps at a look."""
        factors = (1.0,) * (len(SEEDS) - 2) + self.drift
        return DELTA * factors[look] * np.array(self.gaps)


CASES = (
    Case(name="no leak", gaps=(0, 0, 0, 0)),
    Case(name="half of δ", gaps=(0.5, 0.5, 0.5, 0.5)),
    Case(name="one attack at δ", gaps=(0, 0, 0, 1)),
    Case(name="all attacks at δ", gaps=(1, 1, 1, 1)),
    Case(name="one attack at 2 δ", gaps=(0, 0, 0, 2)),
    Case(name="all attacks at 2 δ", gaps=(2, 2, 2, 2)),
    Case(name="from 0.8 δ to 1.2 δ", gaps=(0.8, 0.8, 0.8, 0.8), drift=(1.25, 1.5)),
    Case(name="from 1.2 δ to 0.8 δ", gaps=(1.2, 1.2, 1.2, 1.2), drift=(0.8333, 0.6667)),
)


def levels_of(rule: str) -> list[float]:
    """Return the level of each look under a rule."""
    num_looks = len(SEEDS)
    if rule == "looks":
        return list_levels(num_looks, VERDICT_LEVEL)
    return [1 - (1 - VERDICT_LEVEL) / num_looks if rule == "equal" else VERDICT_LEVEL] * num_looks


def draw_gaps(case: Case, generator: np.random.Generator) -> list[Float[np.ndarray, "seeds attacks"]]:
    """Draw the gaps of one audit at every look."""

    def noise() -> np.ndarray:
        shared, own = (generator.standard_normal((max(SEEDS), number)) for number in (1, len(ATTACKS)))
        return SPREAD * (np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * own)

    first = noise()
    of_fleets = [first, *(np.sqrt(ALIKE) * first + np.sqrt(1 - ALIKE) * noise() for _ in range(2))]
    fleets = [0] * (len(SEEDS) - 2) + [1, 2]
    return [
        case.truth(look) + of_fleets[fleet][:number]
        for look, (number, fleet) in enumerate(zip(SEEDS, fleets, strict=True))
    ]


def decide(gaps: Float[np.ndarray, "seeds attacks"], level: float) -> str:
    """Return the verdict at a look."""
    means, errors = gaps.mean(0), gaps.std(0, ddof=1) / np.sqrt(len(gaps))
    results: dict[str, AttackResult] = {}
    for name, mean, error in zip(ATTACKS, means, errors, strict=True):
        plain, corrected = (
            _interval(mean, error * _quantile(one, len(gaps) - 1), one)
            for one in (level, trace_level(name, len(ATTACKS), level=level))
        )
        results[name] = AttackResult(auc=plain, gap=plain, corrected_gap=corrected)
    return combine_attacks(results, DELTA).outcome


_QUANTILES: dict[tuple[float, int], float] = {}


def _quantile(level: float, freedom: int) -> float:
    if (level, freedom) not in _QUANTILES:
        _QUANTILES[level, freedom] = float(student_t.ppf((1 + level) / 2, freedom))
    return _QUANTILES[level, freedom]


def _interval(mean: float, half_width: float, level: float) -> Interval:
    low, high = mean - half_width, mean + half_width
    return Interval(mean=mean, low=low, high=high, level=level, kind="student_t", per_seed=[])


def simulate(case: Case, rule: str, num_audits: int, seed: int = 0) -> dict[str, float]:
    """Return error rates, and what the audits cost.

    Returns:
        Shares of audits that are falsely equivalent or falsely show a trace, and of those that are equivalent, show a
        trace or stay undecided; and the mean number of seeds and looks.
    """
    generator = np.random.default_rng([seed, CASES.index(case)])
    levels = levels_of(rule)
    sums = dict.fromkeys(("false_equivalence", "false_trace", "equivalent", "trace", "undecided", "seeds", "looks"), 0)
    for _ in range(num_audits):
        gaps = draw_gaps(case, generator)
        # shadow models do not change what one look at all seeds has
        looks = [len(SEEDS) - 3] if rule == "once" else range(len(SEEDS))
        outcome, look, num_looks = "inconclusive", 0, 0
        for look in looks:
            outcome, num_looks = decide(gaps[look], levels[look]), num_looks + 1
            if outcome in ("equivalent", "under-forgotten", "over-forgotten"):
                break
        truth = case.truth(look)
        is_trace = outcome in ("under-forgotten", "over-forgotten")
        is_leak = truth.max() > DELTA if outcome == "under-forgotten" else truth.min() < -DELTA
        sums["false_equivalence"] += outcome == "equivalent" and bool((np.abs(truth) >= DELTA).any())
        sums["false_trace"] += is_trace and not is_leak
        sums["equivalent"] += outcome == "equivalent"
        sums["trace"] += is_trace
        sums["undecided"] += not is_trace and outcome != "equivalent"
        sums["seeds"] += SEEDS[look]
        sums["looks"] += num_looks
    return {name: value / num_audits for name, value in sums.items()}


def main() -> None:
    """Simulate every case under every rule and write the results."""
    num_audits, path = parse_num_audits(__doc__, NUM_AUDITS, RESULTS)
    results = [
        {"case": asdict(case), "rule": rule} | simulate(case, rule, num_audits) for case in CASES for rule in RULES
    ]
    design = {"delta": DELTA, "seeds": SEEDS, "spread": SPREAD, "attacks": ATTACKS, "correlation": ALIKE}
    levels = {rule: levels_of(rule) for rule in RULES}
    store.write_json(path, {"num_audits": num_audits, "design": design, "levels": levels, "results": results})
    for result in results:
        errors = f"{result['false_equivalence']:.3f} {result['false_trace']:.3f}"
        print(f"{result['case']['name']:<22} {result['rule']:<12} {errors}  seeds {result['seeds']:.1f}")


if __name__ == "__main__":
    main()
