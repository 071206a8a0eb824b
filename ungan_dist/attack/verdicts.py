"""Verdicts. A gap in AUC says something only if the attack can see a leak and the model still works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ungan_dist.attack.evidence import AttackResult, Evidence, Interval, Row, Verdict
from ungan_dist.attack.summary import CLASS_DIFFERS as CLASS_DIFFERS
from ungan_dist.attack.summary import LOST as LOST
from ungan_dist.attack.summary import has_power as has_power
from ungan_dist.attack.utility import Judgement, describe_class_accuracy, find_constant, judge_reference, judge_utility
from ungan_dist.config.attack import LARGEST_DELTA, AttackConfig

REFERENCE = "retrain"
NO_LEAK = "no power: the target does not leak"
TOO_WIDE = "no power: the interval is too wide"
QUICK = "no verdict: quick attacks alone"
NO_ORIGINAL = "no power: the original is missing"
VERDICT_LEVEL = 0.90
"""Confidence level of the gap's interval, which equals two one-sided tests at 5 % each."""


def decide_verdict(gap: Interval | None, delta: float) -> Verdict:
    """Decide the verdict on a gap in AUC to Retrain, from its interval alone.

    An interval that lies in no region is inconclusive. A leak of every forget example has a gap near .5. If the
    interval is so wide that not even this gap would lie beyond the margin, there is no power.

    Args:
        gap: AUC (b) minus Retrain's; None for Retrain itself, the reference.
        delta: equivalence margin, > 0.

    Examples:
        >>> from ungan_dist.attack.intervals import student_t_interval
        >>> gap = student_t_interval([0.01, 0.00, -0.01], level=0.90)
        >>> decide_verdict(gap, delta=0.05).outcome
        'equivalent'
    """
    if not delta > 0:
        raise ValueError(f"delta must be greater than 0, got {delta}")
    if gap is None:
        return Verdict(outcome="reference", gap=None, smallest_delta=None)
    if (gap.high - gap.low) / 2 >= LARGEST_DELTA - delta:
        outcome = TOO_WIDE
    elif -delta < gap.low and gap.high < delta:
        outcome = "equivalent"
    elif gap.low >= delta:
        outcome = "under-forgotten"
    elif gap.high <= -delta:
        outcome = "over-forgotten"
    else:
        outcome = "inconclusive"
    return Verdict(outcome=outcome, gap=gap, smallest_delta=max(abs(gap.low), abs(gap.high)))


def trace_level(attack: str, num_attacks: int, *, with_lira: bool = True, level: float = VERDICT_LEVEL) -> float:
    """Return the level of an attack's interval from which a trace is concluded: Bonferroni with weights.

    LiRA, the first attack, has half of the error, and the others share the rest. Without LiRA, as in a quick audit, all
    attacks have equal shares.

    Args:
        attack: name of the attack.
        num_attacks: number of attacks that were run.
        level: level of the interval of a single attack.

    Examples:
        >>> [round(trace_level(name, 4), 4) for name in ("lira", "rmia")], trace_level("lira", 1)
        ([0.95, 0.9833], 0.9)
        >>> round(trace_level("loss", 3, with_lira=False), 4)
        0.9667
    """
    error = 1 - level
    if num_attacks == 1:
        return level
    if not with_lira:
        return 1 - error / num_attacks
    return 1 - error / 2 if attack == "lira" else 1 - error / 2 / (num_attacks - 1)


def combine_attacks(attacks: Mapping[str, AttackResult], delta: float) -> Verdict:
    """Decide the verdict from the strongest of several attacks, corrected for their number.

    A method is equivalent only if every attack finds it so. This needs no correction: if the true gap of one attack
    reaches δ, that attack alone errs in at most 5 % of audits. A trace is found if any attack finds one in its interval
    of ``trace_level``, and together they err in at most 5 % on either side.

    Args:
        attacks: results by name, LiRA's first unless the audit is quick.
        delta: equivalence margin, > 0.
    """
    first = next(iter(attacks))
    verdict = replace(decide_verdict(attacks[first].gap, delta), attack=first)
    if verdict.gap is None or verdict.outcome == TOO_WIDE:
        return verdict
    gaps = {name: one.gap for name, one in attacks.items() if one.gap is not None}
    corrected = list_corrected_gaps(attacks)
    highest = find_clearest(corrected)
    lowest = min(corrected, key=lambda name: corrected[name].high)
    widest = max(gaps, key=lambda name: max(abs(gaps[name].low), abs(gaps[name].high)))
    smallest_delta = max(abs(gaps[widest].low), abs(gaps[widest].high))
    if corrected[highest].low >= delta:
        outcome, attack = "under-forgotten", highest
    elif corrected[lowest].high <= -delta:
        outcome, attack = "over-forgotten", lowest
    else:
        outcome, attack = "equivalent" if smallest_delta < delta else "inconclusive", widest
    return replace(verdict, outcome=outcome, smallest_delta=smallest_delta, attack=attack)


def list_corrected_gaps(attacks: Mapping[str, AttackResult]) -> dict[str, Interval]:
    """Return the intervals from which a trace is concluded, by attack."""
    return {name: one.corrected_gap for name, one in attacks.items() if one.corrected_gap is not None}


def find_clearest(corrected: Mapping[str, Interval]) -> str:
    """Return the attack that sees most of a leak."""
    return max(corrected, key=lambda name: corrected[name].low)


def judge_rows(
    rows: Sequence[Row],
    attack: AttackConfig,
    *,
    num_classes: int | None,
    sizes: Mapping[str, int],
    evidence: Sequence[Evidence] = (),
    diverged: Mapping[str, int] | None = None,
) -> list[Row]:
    """Return the rows with verdicts that take power and utility into account.

    Without a leak in the original there is no power, and no row has another verdict. A model that is equivalent but
    has lost its utility stands apart, and so does one that knows forgotten classes otherwise than Retrain. A quick
    audit has no check of power: only traces are concluded.

    Args:
        rows: rows of ``score_rows``.
        attack: δ and the margin of utility.
        num_classes: classes of the data; without it, no accuracy counts as chance.
        sizes: number of examples of each set.
        evidence: evidence of the rows, in which models with a constant output are found.
        diverged: number of seeds, or of unlearnings, under which a method diverged; they have no evidence.
    """
    constant = find_constant(evidence, num_classes)
    without_power = _find_lack_of_power(rows)
    by_method = {row.method: row for row in rows}
    retrained, original = by_method.get(REFERENCE), by_method.get("original")
    broken = Judgement("", "")
    if retrained is not None and original is not None:
        broken = judge_reference(retrained, original, num_classes=num_classes)
    reference = original if broken.utility else retrained or original
    judged: list[Row] = []
    for row in rows:
        compared = None if row.method in (REFERENCE, "original") else reference
        judgement = judge_utility(
            replace(row, loss={}) if broken.utility else row,  # the losses are against Retrain
            compared,
            margin=attack.utility_margin,
            num_classes=num_classes,
            sizes=sizes,
            is_constant=row.method in constant,
            num_diverged=0 if compared is None else (diverged or {}).get(row.method, 0),
        )
        if row is retrained:
            judgement = judgement if judgement.utility else broken
        has_working = compared is not None and not broken.utility
        class_caveat = describe_class_accuracy(row, retrained if has_working else None, attack.utility_margin)
        outcome = row.verdict.outcome
        if outcome not in ("reference", TOO_WIDE) and not attack.quick:
            withheld = LOST if judgement.utility else CLASS_DIFFERS if class_caveat else outcome
            outcome = without_power or (withheld if outcome == "equivalent" else outcome)
        verdict = replace(row.verdict, outcome=outcome)
        if attack.quick:
            verdict = _limit_to_traces(verdict, has_reference=REFERENCE in by_method)
        judged.append(
            replace(row, verdict=verdict, utility=judgement.utility, caveat=judgement.caveat, class_caveat=class_caveat)
        )
    return judged


def _limit_to_traces(verdict: Verdict, *, has_reference: bool) -> Verdict:
    """Return the verdict of a quick audit, which only a trace against Retrain decides.

    The attacks do not know how hard an example is. Forget examples may therefore differ from non-members without a
    trace, unless the same difference of Retrain is taken off. Traces of hard examples may be missed.
    """
    is_trace = verdict.outcome in ("under-forgotten", "over-forgotten")
    is_kept = verdict.outcome == "reference" or (is_trace and has_reference)
    return replace(verdict, outcome=verdict.outcome if is_kept else QUICK, smallest_delta=None)


def list_undecided(rows: Sequence[Row]) -> list[str]:
    """List the methods whose verdict more seeds or shadow models may decide."""
    undecided = ("inconclusive", TOO_WIDE, NO_LEAK, NO_ORIGINAL)
    return [row.method for row in rows if row.method != "original" and row.verdict.outcome in undecided]


def _find_lack_of_power(rows: Sequence[Row]) -> str:
    """Return the outcome of every row if the original does not show a leak, else an empty text."""
    outcomes = {row.method: row.verdict.outcome for row in rows}
    if "original" not in outcomes:
        return NO_ORIGINAL
    if outcomes["original"] == TOO_WIDE:
        return TOO_WIDE
    return "" if outcomes["original"] == "under-forgotten" else NO_LEAK
