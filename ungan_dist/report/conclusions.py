"""Sentences of the report: the conclusion about each method, caveats and limits."""

from __future__ import annotations

from typing import NamedTuple

from ungan_dist.attack.evidence import FailedRow, Report, Row, ULiRA
from ungan_dist.attack.summary import HIDDEN_LEAK, count_verdicts, mark_hidden_leak
from ungan_dist.attack.utility import FORGOTTEN, merge_caveats
from ungan_dist.attack.verdicts import (
    CLASS_DIFFERS,
    LOST,
    NO_LEAK,
    NO_ORIGINAL,
    QUICK,
    TOO_WIDE,
    find_clearest,
    list_corrected_gaps,
)
from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.report.cells import (
    find_first_attack,
    format_number,
    format_signed,
    is_quick,
    measures_from_half,
)
from ungan_dist.report.cells import format_gap as shown_gap
from ungan_dist.report.power import describe_normality, get_delta

MIN_COMPARED = 12
"""Fewest forget examples for which an AUC is the better question than a p value of each."""

NOT_TESTED = (
    "U-LiRA (Hayes et al. 2024), whose shadow models unlearn too",
    "white-box attacks that read weights or gradients",
    "reconstruction of forget examples from the model, or from the model before and after",
    "attacks on the loss trajectory of training",
    "an adaptive attacker who knows the unlearning method",
)
"""Attacks that an audit leaves out. They are in table.json, so their words stay as they are."""

NOT_TESTED_QUICKLY = "LiRA and RMIA, whose shadow models show how hard each example is"
"""What a quick audit leaves out in addition."""

LIMITS = (
    "An attack that finds no difference is evidence, not proof, that the model kept no trace of the forget set.",
    "The shadow models never unlearned anything, so their scores for members do not fit an unlearned model exactly. "
    "An attacker whose shadow models unlearn as the target did may see more.",
    "Unseen examples (D_u) are in no shadow model. No attack scores them, and only their log-odds are shown.",
    "Column (a) is confounded: a method that raises its scores on the retain set looks as if it forgot better. "
    "It allows a comparison with the paper, and nothing is concluded from it. Its value by chance is its FNR.",
)
"""Limits of an audit without U-LiRA."""

MEANINGS = {
    "equivalent": "The attack separates forget examples from non-members about as well as in the retrained model.",
    LOST: "The attack finds no more than in the retrained model, but the model no longer works as well. "
    "This is not a success.",
    CLASS_DIFFERS: "The attack separates the forget examples of the classes from never-seen ones about as well as in "
    "the retrained model. But the model is right on never-seen examples of these classes more or less often than that "
    "model, which never saw the classes. This is not a success.",
    f"equivalent, {HIDDEN_LEAK}": "The attack separates forget examples from non-members about as well as in the "
    "retrained model, but U-LiRA finds a leak. This is no pass.",
    f"{LOST}, {HIDDEN_LEAK}": "The attack finds no more than in the retrained model, but U-LiRA finds a leak. The "
    "model no longer works as well, too. This is no pass.",
    f"{CLASS_DIFFERS}, {HIDDEN_LEAK}": "The attack finds no more than in the retrained model, but U-LiRA finds a leak, "
    "and the model knows the classes otherwise than that model. This is no pass.",
    "under-forgotten": "Forget examples still look like training examples: the model remembers too much of them.",
    "over-forgotten": "Forget examples look less familiar than data the model never saw. That is a trace too.",
    "inconclusive": "The measurement is too uncertain for any of these verdicts. It is not a pass.",
    NO_LEAK: "No attack finds a gap of the original beyond δ. Without a leak to remove, no method can show anything.",
    TOO_WIDE: "The interval is so wide that no size of leak could be told, not even that of every forget example.",
    NO_ORIGINAL: "The original is not in the table, so nothing shows that the attack can see a leak.",
    QUICK: "A quick audit cannot tell. No trace was found that its attacks can show, and they miss leaks of hard "
    "examples.",
    "reference": "The model retrained without the forget set, with which all others are compared.",
}
"""The verdict words in plain English."""


def list_seeds(report: Report) -> list[int]:
    """List the audit seeds of the evidence."""
    return sorted({evidence.seed for evidence in report.evidence})


def list_not_tested(report: Report) -> list[str]:
    """List the attacks that were not run; U-LiRA with the methods that it was not run on."""
    if is_quick(report):
        return [NOT_TESTED_QUICKLY, *NOT_TESTED]
    if not any(isinstance(row.ulira, ULiRA) for row in report.rows):
        return list(NOT_TESTED)
    without = [row.title for row in report.rows if not isinstance(row.ulira, ULiRA)]
    first = [f"{NOT_TESTED[0]}, on {', '.join(without)}"] if without else []
    return [*first, *NOT_TESTED[1:]]


def list_limits(report: Report) -> list[str]:
    """List the limits of the audit. If U-LiRA was run, they say where its shadow models unlearned."""
    if is_quick(report):
        return [_LIMIT_OF_QUICK if text == LIMITS[1] else text for text in LIMITS]
    measured = [row for row in report.rows if isinstance(row.ulira, ULiRA)]
    if not measured:
        return list(LIMITS)
    limit = (
        "The verdicts come from attacks whose shadow models never unlearned anything. U-LiRA's unlearned as the target "
        "did, and only adds a warning to a verdict."
    )
    return [limit if text == LIMITS[1] else text for text in LIMITS]


_LIMIT_OF_QUICK = (
    "A quick audit has no shadow models. Its attacks do not know how hard an example is, and miss what LiRA would find."
)


def has_reference(report: Report) -> bool:
    """Return whether a row is Retrain, from which gaps are measured; without it they are measured from .5."""
    return any(row.verdict.gap is None for row in report.rows)


class Conclusion(NamedTuple):
    """What one verdict means, for all the rows that have it."""

    outcome: str
    titles: str
    sentence: str


def write_conclusions(report: Report) -> list[Conclusion]:
    """Write the meaning of each verdict once, in the order of ``MEANINGS``, with the rows that have it.

    Raises:
        ValueError: a row has an unknown verdict.
    """
    titles: dict[str, list[str]] = {}
    for row in report.rows:
        if row.verdict.outcome not in MEANINGS:
            raise ValueError(
                f"unknown verdict {row.verdict.outcome!r} of {row.method}: expected one of {sorted(MEANINGS)}"
            )
        titles.setdefault(mark_hidden_leak(row, row.verdict.outcome), []).append(row.title)
    return [
        Conclusion(outcome, ", ".join(titles[outcome]), _complete(report, outcome, meaning))
        for outcome, meaning in MEANINGS.items()
        if outcome in titles
    ]


def _complete(report: Report, outcome: str, meaning: str) -> str:
    if outcome == "reference":
        aucs = [format_number(row.auc.mean, 3) for row in report.rows if row.verdict.gap is None]
        if measures_from_half(report):
            meaning = "The model retrained without the forget set. All gaps are measured from .5, not from its AUC."
        return f"{meaning} Its AUC is {', '.join(aucs)}; .5 is expected by construction."
    if outcome in ("inconclusive", TOO_WIDE):
        return f"{meaning} {_write_remedy(report)}."
    return meaning


_COUNTED = {
    "equivalent": ("matches retraining", "match retraining"),
    f"equivalent, {HIDDEN_LEAK}": ("hides a leak that U-LiRA finds", "hide a leak that U-LiRA finds"),
    LOST: ("matches retraining but lost utility", "match retraining but lost utility"),
    f"{LOST}, {HIDDEN_LEAK}": (
        "lost utility and hides a leak that U-LiRA finds",
        "lost utility and hide a leak that U-LiRA finds",
    ),
    CLASS_DIFFERS: ("hides its members but not its class", "hide their members but not their class"),
    f"{CLASS_DIFFERS}, {HIDDEN_LEAK}": (
        "hides neither its class nor a leak that U-LiRA finds",
        "hide neither their class nor a leak that U-LiRA finds",
    ),
    "under-forgotten": ("still remembers", "still remember"),
    "over-forgotten": ("leaves a trace by forgetting too much", "leave a trace by forgetting too much"),
    "inconclusive": ("is undecided", "are undecided"),
    NO_LEAK: ("cannot be judged", "cannot be judged"),
    TOO_WIDE: ("cannot be judged", "cannot be judged"),
    NO_ORIGINAL: ("cannot be judged", "cannot be judged"),
    QUICK: ("is left open by a quick audit", "are left open by a quick audit"),
    "failed": ("failed", "failed"),
    "diverged": ("diverged", "diverged"),
}
"""What one method or several with a verdict do, for the sentence on top of the report."""


class Count(NamedTuple):
    """Number of methods with one verdict, and what they do."""

    outcome: str
    number: int
    phrase: str


def describe_ulira(row: Row) -> list[str]:
    """State what U-LiRA found on a row, the warning of a hidden leak first; empty where it was not run."""
    ulira = row.ulira
    if not isinstance(ulira, ULiRA):
        return [] if ulira is None else [f"U-LiRA: {ulira}."]
    bounds, scores = [format_number(bound, 3) for bound in (ulira.auc.low, ulira.auc.high)], ulira.target_scores
    found = [
        f"U-LiRA's AUC is {format_number(ulira.auc.mean, 3)} over {ulira.num_shadows} shadow models that unlearned, "
        f"95 % interval [{', '.join(bounds)}]."
    ]
    if scores:
        low, middle, high = (format_signed(sum(scores[key]) / len(scores[key]), 2) for key in ("0.05", "0.5", "0.95"))
        found.append(
            f"Its scores of the model on the forget set have the median {middle}, and 90 % lie between {low} and "
            f"{high}. There are no negatives to compare them with."
        )
    return [*([ulira.hidden_leak] if ulira.hidden_leak else []), *found]


def list_counts(report: Report) -> list[Count]:
    """Count the unlearning methods of each verdict, in the order in which the report explains verdicts."""
    counts = count_verdicts(report)
    found = [(outcome, counts[outcome]) for outcome in _COUNTED if outcome in counts]
    return [Count(outcome, number, _COUNTED[outcome][number > 1]) for outcome, number in found]


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
    found: list[str] = _warn_of_quick(report)
    outcomes = {row.verdict.outcome for row in report.rows}
    if NO_LEAK in outcomes:
        [original] = [row for row in report.rows if row.method == "original"]
        found.append(
            f"No power: no attack shows a leak in the original, which was trained on the forget set (AUC by "
            f"{ATTACK_NAMES[find_first_attack(report)]} {format_number(original.auc.mean, 3)}, gap "
            f"{shown_gap(original.verdict.gap)}). No method is called equivalent here. "
            f"More shadow models, queries, epochs or forget examples make a leak "
            f"easier to see."
        )
    if TOO_WIDE in outcomes:
        few = " Or ask for the membership p value of each example: load_p_values, or export --records."
        found.append(
            f"No power: with intervals this wide, no size of leak could be told. {_write_remedy(report)}."
            f"{few if report.sizes.get('forget', MIN_COMPARED) < MIN_COMPARED else ''}"
        )
    if report.rows and not any(row.method == "original" for row in report.rows):
        found.append("The original is not in the table, so this run does not show that the attack can detect anything.")
    found = [*(row.hidden_leak for row in report.rows if row.hidden_leak), *found, *merge_caveats(report.rows)]
    found += _compare_class_accuracies(report)
    found += _warn_of_normality(report)
    if len(list_seeds(report)) == 1:
        found.append("One seed cannot rank methods, because the variation between seeds is not known.")
    return [*found, *([report.copies] if report.copies else []), *report.notes, *explain_failures(report)]


def _compare_class_accuracies(report: Report) -> list[str]:
    """Name the rows that know the forgotten classes otherwise than Retrain, with their accuracies."""
    rows = [row for row in report.rows if row.class_caveat]
    retrain = next((row for row in report.rows if row.verdict.gap is None), None)
    if not rows or retrain is None:
        return []
    shares = [f"{row.title} {100 * row.accuracy[FORGOTTEN].mean:.1f} %" for row in (retrain, *rows)]
    return [
        f"Accuracy on never-seen examples of the forgotten classes: {shares[0]}. These rows differ from Retrain, "
        f"and none is called equivalent: {', '.join(shares[1:])}."
    ]


def _warn_of_normality(report: Report) -> list[str]:
    """Warn if far more log-odds than by chance are not Gaussian."""
    if report.normality is None or not report.normality.is_doubtful:
        return []
    return [
        f"LiRA takes the shadow models' log-odds of an example for Gaussian.{describe_normality(report)} By chance, "
        f"5 % are expected. LiRA may therefore be weaker than it could be. RMIA, calibrated loss and loss assume no "
        f"Gaussian."
    ]


def _warn_of_quick(report: Report) -> list[str]:
    """State what a quick audit cannot show."""
    if not is_quick(report):
        return []
    sentences = [
        "Quick audit: no shadow model was trained, and the attacks look at the outputs of the audited models alone.",
        "They find gross leaks. They miss leaks of hard examples and of a few examples among many.",
        "No method is called equivalent. For a verdict, run the same command without --attack.quick.",
    ]
    if not has_reference(report):
        sentences.append(
            "Without Retrain, no trace is concluded either: forget examples may be easier or harder than non-members. "
            "Give a retrained model with --retrained."
        )
    found = [" ".join(sentences)]
    delta, original = get_delta(report), next((row for row in report.rows if row.method == "original"), None)
    if original is not None and delta is not None and not _shows_leak(original, delta):
        found.append(
            f"No quick attack shows a leak in the original, which was trained on the forget set (AUC by "
            f"{ATTACK_NAMES[find_first_attack(report)]} {format_number(original.auc.mean, 3)}). These weak attacks may "
            f"miss a leak: it does not follow that there is none, in the original or in another model."
        )
    return found


def _shows_leak(original: Row, delta: float) -> bool:
    """Return whether the interval of an attack, corrected for their number, lies above δ."""
    corrected = list_corrected_gaps(original.attacks)
    return bool(corrected) and corrected[find_clearest(corrected)].low >= delta
