"""What may be concluded, one sentence a method, and what may not."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

from ungan_dist.attack.evidence import Levers, Report, Row
from ungan_dist.report.cells import format_delta as shown_delta
from ungan_dist.report.cells import format_gap as shown_gap
from ungan_dist.report.cells import format_number, format_rate, format_signed, list_rates

NOT_TESTED = (
    "U-LiRA (Hayes et al. 2024), whose shadow models unlearn too",
    "white-box attacks that read weights or gradients",
    "reconstruction of forget examples from the model, or from the model before and after",
    "attacks on the loss trajectory of training",
    "an adaptive attacker who knows the unlearning method",
)
"""Attacks that were not run."""

LIMITS = (
    "An attack that cannot tell is evidence, not proof, that nothing remains.",
    "The shadow models never unlearned anything. For an unlearned model their IN distribution is therefore "
    "mis-specified, and an attacker whose shadow models unlearn as the target did may see more.",
    "Unseen examples (D_u) are in no shadow model: LiRA never scores them, and only their log-odds are shown.",
    "Column (a) is confounded: a method that merely raises its scores on the retain set looks as if it forgot "
    "better. It is there to be compared with the paper, and nothing is concluded from it; chance is its FNR.",
)
"""True of every audit that this project makes."""


def list_seeds(report: Report) -> list[int]:
    """The audit seeds that evidence came from."""
    return sorted({evidence.seed for evidence in report.evidence})


def get_delta(report: Report) -> float | None:
    """δ, the equivalence margin of the run's config; none where the config does not say."""
    value: object = report.config
    for name in ("identity", "attack", "delta"):
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def write_conclusion(report: Report, row: Row) -> str:
    """What may be said of one method, with the figures that it rests on."""
    auc, verdict = format_number(row.auc.mean, 3), row.verdict
    if verdict.gap is None:
        return (
            f"The reference: it was never trained on the forget set, and every gap is measured from it. "
            f"AUC {auc}, where .5 is expected by construction."
        )
    to = (
        "to Retrain" if any(other.verdict.gap is None for other in report.rows) else "to .5 (Retrain is not in the run)"
    )
    found = (
        f"AUC {auc}, gap {to} {format_signed(verdict.gap.mean)} with "
        f"{verdict.gap.level * 100:g} % interval {shown_gap(verdict.gap)}"
    )
    value = get_delta(report)
    within = "δ" if value is None else f"δ = {value:g}"
    passed = f"the smallest δ it could have passed is {shown_delta(verdict.smallest_delta)}"
    tail = "" if verdict.gap.kind != "bootstrap" else " This speaks of these models only, not of another training."
    sentences = {
        "equivalent": f"Equivalent within {within}: this attack tells forget from never-seen examples about as well "
        f"as on the reference ({found}; {passed}).",
        "under-forgotten": f"Under-forgotten: forget examples still look like members beyond {within} "
        f"({found}; {passed}).",
        "over-forgotten": f"Over-forgotten: forget examples look less seen than examples that never were, beyond "
        f"{within}, and that is a trace too ({found}; {passed}).",
        "inconclusive": f"Inconclusive, which is no pass: the interval neither stays within {within} nor lies wholly "
        f"beyond it, so {_needed(report.levers)} ({found}; {passed}).",
    }
    if verdict.outcome not in sentences:
        raise ValueError(f"unknown verdict {verdict.outcome!r} of {row.method}: expected one of {sorted(sentences)}")
    return sentences[verdict.outcome] + tail


def _needed(levers: Levers) -> str:
    if not levers.forget_list:
        return "more seeds or more forget examples are needed"
    return "more seeds or a longer forget list are needed" if levers.more_seeds else "a longer forget list is needed"


def list_caveats(report: Report) -> list[str]:
    """What this run in particular leaves open, the gravest first."""
    found = [
        f"This attack does not show the forget set even in the untouched original (AUC "
        f"{format_number(row.auc.mean, 3)}, {row.verdict.outcome}): a verdict of equivalence carries little weight "
        f"here. More shadow models, queries or forget examples would sharpen it."
        for row in report.rows
        if row.method == "original" and row.verdict.outcome != "under-forgotten"
    ]
    found += _at_chance(report)
    if report.rows and not any(row.method == "original" for row in report.rows):
        found.append("The original is not in the table: whether the attack sees anything at all was not checked.")
    if len(list_seeds(report)) == 1:
        found.append("One seed cannot rank methods: how much another draw and training would differ is not known.")
    return [*report.notes, *found]


def _at_chance(report: Report) -> list[str]:
    """A caveat a row whose accuracy on what it should know is not above chance by two standard errors."""
    if report.num_classes is None:
        return []
    chance = 1 / report.num_classes
    found: list[str] = []
    for row in report.rows:
        low: list[str] = []
        for name in ("retain", "test"):
            error = sqrt(chance * (1 - chance) / max(1, report.sizes[name]))
            accuracy = row.accuracy[name].mean if name in row.accuracy else 1.0
            if accuracy <= chance + 2 * error:
                low.append(f"{accuracy * 100:.1f} % of {name}")
        if low:
            found.append(
                f"{row.title} classifies {' and '.join(low)} examples correctly, which is no better than chance "
                f"({chance * 100:.1f} %): its verdict says nothing of a working model. Other class order, pixels "
                f"normalised otherwise, or a model that was destroyed are likely causes."
            )
    return found


def explain_table(report: Report) -> list[str]:
    """How the table is to be read: seeds, intervals, error rates."""
    if not report.rows:
        return []
    value = get_delta(report)
    lines = [
        *_intervals(report.rows),
        f"Verdict: equivalent where the gap's interval lies wholly inside (−δ, δ)"
        f"{'' if value is None else f', δ = {value:g}'}; under- or over-forgotten where wholly beyond; else "
        f"inconclusive. The smallest δ is the one that this interval could have passed.",
        "Flipped TPR: the same attack with its sign turned, "
        "high where forget examples look less seen than never-seen ones.",
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


def _intervals(rows: list[Row]) -> list[str]:
    """Kind and seeds of the intervals; in a partial run the rows may differ."""
    titles: dict[tuple[str, float, int], list[str]] = {}
    for row in rows:
        titles.setdefault((row.auc.kind, row.auc.level, len(row.auc.per_seed)), []).append(row.title)
    lines: list[str] = []
    for (kind, level, count), of in titles.items():
        how = (
            f"Student's t over {count} seeds; the gap's 90 % interval is paired by seed"
            if kind == "student_t"
            else f"bootstrap over the examples of {count} seed{'s' if count > 1 else ''}, these models only; "
            "the gap's 90 % interval is paired by example"
        )
        whose = f" of {', '.join(of)}" if len(titles) > 1 else ""
        lines.append(f"Intervals{whose}: {level * 100:g} %, {how}.")
    return lines
