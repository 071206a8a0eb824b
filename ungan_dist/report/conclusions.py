"""Sentences of the report: the conclusion about each method, caveats and limits."""

from __future__ import annotations

from collections.abc import Mapping

from ungan_dist.attack.evidence import FailedRow, Report, Row
from ungan_dist.attack.utility import merge_caveats
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
"""Attacks that were not run. They are in table.json, so their words stay as they are."""

FEW_EXAMPLES = 10
"""Forget examples below which a bootstrap interval is too narrow: with 1 and 5, tests simulate how often it misses."""

LIMITS = (
    "An attack that finds no difference is evidence, not proof, that the model kept no trace of the forget set.",
    "The shadow models never unlearned anything, so their scores for members do not fit an unlearned model exactly. "
    "An attacker whose shadow models unlearn as the target did may see more.",
    "Unseen examples (D_u) are in no shadow model. LiRA does not score them, and only their log-odds are shown.",
    "Column (a) is confounded: a method that raises its scores on the retain set looks as if it forgot better. "
    "It allows a comparison with the paper, and nothing is concluded from it. Its value by chance is its FNR.",
)
"""Limits of every audit."""

MEANINGS = (
    ("equivalent", "The attack separates forget examples from non-members about as well as in the retrained model."),
    ("under-forgotten", "Forget examples still look like training examples: the model remembers too much of them."),
    (
        "over-forgotten",
        "Forget examples look less familiar than data the model never saw. That is a trace too.",
    ),
    ("inconclusive", "The measurement is too uncertain for any of these verdicts. It is not a pass."),
    ("reference", "The model retrained without the forget set, with which all others are compared."),
)
"""The verdict words in plain English."""


def list_seeds(report: Report) -> list[int]:
    """List the audit seeds of the evidence."""
    return sorted({evidence.seed for evidence in report.evidence})


def get_delta(report: Report) -> float | None:
    """Return δ, the equivalence margin of the run's config, or None if the config has none."""
    value: object = report.config
    for name in ("identity", "attack", "delta"):
        value = value.get(name) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def has_reference(report: Report) -> bool:
    """Return whether a row is Retrain, from which gaps are measured; without it they are measured from .5."""
    return any(row.verdict.gap is None for row in report.rows)


def explain_few_examples(report: Report) -> list[str]:
    """Warn of a bootstrap over few forget examples, in one sentence at most."""
    num_forget = report.sizes["forget"]
    gaps = [row.verdict.gap for row in report.rows if row.verdict.gap is not None]
    if num_forget >= FEW_EXAMPLES or not any(gap.kind == "bootstrap" for gap in gaps):
        return []
    examples = "1 forget example" if num_forget == 1 else f"{num_forget} forget examples"
    return [
        f"With {examples}, the intervals are too narrow, because a bootstrap needs at least {FEW_EXAMPLES}: "
        f"no verdict here is reliable."
    ]


def write_conclusion(report: Report, row: Row) -> str:
    """Write the conclusion about one method, with its figures."""
    auc, verdict = format_number(row.auc.mean, 3), row.verdict
    if verdict.gap is None:
        return (
            f"The reference: it was never trained on the forget set, and every gap is measured from it. "
            f"Its AUC is {auc}; .5 is expected by construction."
        )
    to = "to Retrain" if has_reference(report) else "to .5 (Retrain is not in this report)"
    found = (
        f"AUC {auc}, gap {to} {format_signed(verdict.gap.mean)} with "
        f"{verdict.gap.level * 100:g} % interval {shown_gap(verdict.gap)}"
    )
    value = get_delta(report)
    within = "δ" if value is None else f"δ = {value:g}"
    passed = f"the smallest δ it could have passed is {shown_delta(verdict.smallest_delta)}"
    tail = "" if verdict.gap.kind != "bootstrap" else " This holds for these models only, not for another training."
    sentences = {
        "equivalent": f"Equivalent within {within}: the attack separates forget examples from non-members about as "
        f"well as in the reference ({found}; {passed}).",
        "under-forgotten": f"Under-forgotten: forget examples still look like members by more than {within} "
        f"({found}; {passed}).",
        "over-forgotten": f"Over-forgotten: forget examples look less familiar than non-members by more than {within}. "
        f"That is a trace too ({found}; {passed}).",
        "inconclusive": f"Inconclusive, which is no pass: the interval lies neither within {within} nor beyond it. "
        f"{_write_remedy(report)} ({found}; {passed}).",
    }
    if verdict.outcome not in sentences:
        raise ValueError(f"unknown verdict {verdict.outcome!r} of {row.method}: expected one of {sorted(sentences)}")
    return sentences[verdict.outcome] + tail + (f" {row.caveat}" if row.caveat else "")


def _write_remedy(report: Report) -> str:
    if not report.remedies.forget_list:
        return "More seeds or more forget examples are needed"
    if report.remedies.more_seeds:
        return "More seeds or a longer forget list are needed"
    return "A longer forget list is needed"


def write_failure(row: FailedRow) -> str:
    """Write why a method has no figures, in the place of its conclusion."""
    return f"{row.outcome.capitalize()} under every seed, and would again: {end_sentence(row.reason)}"


def explain_failures(report: Report) -> list[str]:
    """Explain what is absent from the figures because it failed, one sentence each; failed rows explain themselves."""
    rows = {row.method for row in report.failed_rows}
    lines: list[str] = []
    for failure in report.failures:
        if failure.method in rows:
            continue
        figures = "The attack uses the other shadow models." if failure.method is None else "It is in no figure."
        if failure.method == "original":
            figures = "Nothing was unlearned under this seed."
        lines.append(f"{end_sentence(failure.sentence)} {figures}")
    return lines


def end_sentence(text: str) -> str:
    """End a text with a full stop, unless it has an end."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def list_caveats(report: Report) -> list[str]:
    """List the caveats of this run, the most serious first."""
    found = [
        f"This attack does not detect the forget set even in the original, which was trained on it (AUC "
        f"{format_number(row.auc.mean, 3)}, {row.verdict.outcome}). A verdict of equivalence carries little weight "
        f"here. More shadow models, queries or forget examples would make the attack stronger."
        for row in report.rows
        if row.method == "original" and row.verdict.outcome != "under-forgotten"
    ]
    found = [*explain_few_examples(report), *found, *merge_caveats(report.rows)]
    if report.rows and not any(row.method == "original" for row in report.rows):
        found.append("The original is not in the table, so this run does not show that the attack can detect anything.")
    if len(list_seeds(report)) == 1:
        found.append("One seed cannot rank methods, because the variation between seeds is not known.")
    return [*([report.copies] if report.copies else []), *report.notes, *explain_failures(report), *found]


def explain_table(report: Report) -> list[str]:
    """Explain the table: seeds, intervals and error rates."""
    if not report.rows:
        return []
    value = get_delta(report)
    lines = [
        *_intervals(report.rows),
        f"Verdict: equivalent if the gap's interval lies inside (−δ, δ)"
        f"{'' if value is None else f' with δ = {value:g}'}, under- or over-forgotten if it lies outside, otherwise "
        f"inconclusive. The smallest δ is the smallest margin that this interval would have passed.",
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


def _intervals(rows: list[Row]) -> list[str]:
    """Explain the kind and seeds of the intervals, which may differ between rows of a partial run."""
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
