"""Lines below the table: what its seeds, intervals, attacks and error rates are."""

from __future__ import annotations

from ungan_dist.attack.evidence import Report, ULiRA
from ungan_dist.attack.verdicts import trace_level
from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.report.cells import (
    find_first_attack,
    forgets_classes,
    format_gap_level,
    format_rate,
    get_gap_level,
    is_quick,
    list_further_attacks,
    list_rates,
    measures_from_half,
)
from ungan_dist.report.conclusions import has_reference
from ungan_dist.report.power import get_delta, get_utility_margin


def explain_table(report: Report) -> list[str]:
    """Explain the table: seeds, intervals and error rates."""
    if not report.rows:
        return []
    lines = [
        *_intervals(report),
        *_explain_verdict(report),
        *_explain_attacks(report),
        *_explain_utility(report),
        *_explain_ulira(report),
        *explain_classes(report),
        "Flipped TPR: the same attack with its sign turned. It is high if forget examples look less familiar than "
        "non-members.",
    ]
    for fnr in list_rates(report, "achieved_fnr"):
        achieved = [value for row in report.rows for value in row.achieved_fnr.get(fnr, [])]
        if achieved:
            low, high = (f"{bound * 100:.2f}" for bound in (min(achieved), max(achieved)))
            lines.append(
                f"Column (a) at {format_rate(fnr)} FNR achieves {low if low == high else f'{low}–{high}'} %; "
                f"chance is {format_rate(fnr)}."
            )
    return lines


def explain_classes(report: Report) -> list[str]:
    """Explain an audit of whole classes, and what its verdicts mean; empty without one."""
    if not forgets_classes(report):
        return []
    by_retrain = "retrain_loss" in list_further_attacks(report)
    lines = [
        "Forgotten classes: the forget set has every training example of them, and column (b) compares it with "
        "never-seen examples of the same classes. Retrain saw neither. Which of them were trained on is drawn at "
        "random, so an AUC of .5 is expected of Retrain by construction."
        + (" All gaps are measured from it." if measures_from_half(report) else ""),
        "What a verdict on classes means: a model that predicts nothing of a class is told from one that never saw it "
        "only by differences between its trained and its never-seen examples of the class. Equivalent also needs an "
        "accuracy on the never-seen ones like Retrain's. Traces of the class as a whole in weights or in other outputs "
        "are not tested.",
    ]
    if is_quick(report):
        return lines
    return [
        *lines,
        "Shadow models on classes: LiRA's know the classes from other examples. They are the right measure of the "
        "original, but their Gaussians do not fit a model without the classes, where LiRA alone may miss a trace."
        + (
            " Loss against Retrain is relative to Retrain of the other seeds, which never saw the classes, and a "
            "verdict needs it too."
            if by_retrain
            else " Without Retrain, no attack is relative to a model that never saw the classes."
        ),
    ]


def _explain_verdict(report: Report) -> list[str]:
    value = get_delta(report)
    margin = "" if value is None else f" with δ = {value:g}"
    if is_quick(report):
        return [
            f"Verdict: only under- or over-forgotten, if the gap's interval lies outside (−δ, δ){margin} and Retrain "
            f"is in the table. It needs an original whose own interval lies beyond δ."
        ]
    passed = "the intervals of all attacks" if list_further_attacks(report) else "this interval"
    return [
        f"Verdict: equivalent if the gap's interval lies inside (−δ, δ){margin}, under- or over-forgotten if it lies "
        f"outside, otherwise inconclusive. The smallest δ is the smallest margin that {passed} would have passed. "
        f"A verdict needs an original whose own interval lies beyond δ."
    ]


def _explain_ulira(report: Report) -> list[str]:
    if not any(isinstance(row.ulira, ULiRA) for row in report.rows):
        return []
    return [
        "U-LiRA: the shadow models unlearned too, and each is scored by the others. The AUC is their mean: what each "
        "forgot against forget examples that it never had; the original's row has the shadow models before they "
        "unlearned. Its 95 % interval counts other pairs of shadow models and other examples."
    ]


def _explain_attacks(report: Report) -> list[str]:
    names = [ATTACK_NAMES[name] for name in list_further_attacks(report)]
    number, level, exact = len(names) + 1, format_gap_level(report), get_gap_level(report)
    digits = 2 if report.stopping else 1
    if not names:
        return []
    if is_quick(report):
        first, level = ATTACK_NAMES[find_first_attack(report)], trace_level("loss", len(names) + 1, with_lira=False)
        return [
            f"Attacks: {first}, {', '.join(names)}. A trace is found if the interval of one gap lies outside (−δ, δ) "
            f"at a level corrected for their number, {100 * level:.1f} %. The gap shown is that of {first}, also in "
            f"the figures."
        ]
    return [
        f"Attacks: LiRA, {', '.join(names)}. The verdict takes all of them into account. A method is equivalent if "
        f"the {level} interval of every attack's gap lies inside (−δ, δ). A trace is found if one interval lies "
        f"outside, at a level corrected for their number: {100 * trace_level('lira', number, level=exact):.4g} % for "
        f"LiRA, {100 * trace_level(names[0], number, level=exact):.{digits}f} % for the others. So an interval of "
        f"{level} beyond δ may still be inconclusive. The gap shown is LiRA's, also in the figures."
    ]


def _explain_utility(report: Report) -> list[str]:
    margin = get_utility_margin(report)
    if margin is None:
        return []
    reference = "Retrain" if has_reference(report) else "the original"
    return [
        f"Utility: lost if retain or test accuracy is below that of {reference} by more than {100 * margin:g} points "
        f"and by more than the half width of that difference's 90 % interval, or if a seed collapsed."
    ]


def _intervals(report: Report) -> list[str]:
    """Explain the kind and seeds of the intervals, which may differ between rows of a partial run."""
    rows, of_gaps = report.rows, format_gap_level(report)
    titles: dict[tuple[str, float, int], list[str]] = {}
    for row in rows:
        titles.setdefault((row.auc.kind, row.auc.level, len(row.auc.per_seed)), []).append(row.title)
    lines: list[str] = []
    for (kind, level, count), of in titles.items():
        how = (
            f"Student's t over {count} seeds, with the variance of examples that seeds share; the gap's {of_gaps} "
            f"interval is paired by seed and by example"
            if kind == "student_t"
            else f"over the examples of {count} seed{'s' if count > 1 else ''}, these models only; "
            f"the gap's {of_gaps} interval is paired by example"
        )
        whose = f" of {', '.join(of)}" if len(titles) > 1 else ""
        lines.append(f"Intervals{whose}: {level * 100:g} %, {how}.")
    return lines
