"""Whether a model still works: an attack finds no trace in a model that has forgotten everything.

A model is compared with Retrain, or with the original if Retrain is absent, on the retain set and the test set.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from ungan_dist.attack.evidence import Evidence, Row, Utility

SETS = ("retain", "test")
"""Sets on which an unlearned model should be as accurate as Retrain."""
SETS_OF_CLASSES = ("retain", "test_others")
"""The same if whole classes are forgotten: Retrain is wrong on theirs, and not to be so is no utility."""
TITLES = {
    "retain": "retain",
    "test": "test",
    "test_others": "the other classes' test",
    "non_members": "the forgotten classes' never-seen",
}
"""Names of the sets before the word examples."""
FORGOTTEN = "non_members"
"""Never-seen examples of the forgotten classes, on which a model should be as accurate as Retrain, and not more."""
SEED_MARGIN = 0.10
"""Loss of accuracy that a model may have under a single seed, beside the margin of the mean."""
ERRORS = 3
"""Standard errors above which a loss under a single seed is no chance."""
APPLIES = "Its verdict does not apply to a working model."
CAUSES = (
    "Likely causes are another class order, another normalisation of the pixels, or a model that unlearning destroyed."
)
"""Of accuracies at chance."""


def has_classes(accuracies: Container[str]) -> bool:
    """Return whether accuracies are of an audit of whole classes."""
    return "test_others" in accuracies


def list_compared_sets(accuracies: Iterable[str]) -> tuple[str, ...]:
    """List the sets on which accuracies are compared with Retrain's, out of those that were measured."""
    known = set(accuracies)
    return (*SETS_OF_CLASSES, FORGOTTEN) if has_classes(known) else SETS


class Judgement(NamedTuple):
    """Whether a model still works."""

    utility: Utility
    caveat: str
    """The same as a sentence with its figures; empty for a model that works."""


def judge_utility(
    row: Row,
    reference: Row | None,
    *,
    margin: float,
    num_classes: int | None,
    sizes: Mapping[str, int],
    is_constant: bool = False,
    num_diverged: int = 0,
) -> Judgement:
    """Judge a model by its accuracies.

    A model is at chance if its mean accuracy on a set is. It has lost its utility in one of three cases:

    - its mean loss against the reference exceeds both the margin and the half width of the loss's interval;
    - less than half of what the reference has above chance is left;
    - it collapsed under a seed, in any of its unlearnings: it is at chance there, has lost ten points and more than
      three standard errors, or diverged.

    Without a common seed, the loss is that of the means, and the margin alone counts.

    Args:
        row: row of the model, with its losses against the reference.
        reference: row of Retrain, or of the original; ``None`` for these models themselves.
        margin: loss of accuracy, as a share, that a useful model may have.
        num_classes: classes of the data; without it, no accuracy counts as chance.
        sizes: number of examples of each set.
        is_constant: whether the model gives every example the same output.
        num_diverged: number of seeds, or of unlearnings, that diverged, so that they are in no figure.
    """
    kind = "unlearnings" if row.stages else "seeds"
    chance = 0.0 if num_classes is None else 1 / num_classes
    wanted = SETS_OF_CLASSES if has_classes(row.accuracy) else SETS
    present = [name for name in wanted if name in row.accuracy]

    def is_chance(name: str, accuracy: float) -> bool:
        error = sqrt(chance * (1 - chance) / max(1, sizes.get(name, 0)))
        return num_classes is not None and accuracy <= chance + 2 * error

    def is_lost(name: str) -> bool:
        if reference is None or name not in reference.accuracy:
            return False
        there, paired = reference.accuracy[name].mean, row.loss.get(name)
        loss = there - row.accuracy[name].mean if paired is None else paired.mean
        half_width = 0.0 if paired is None else (paired.high - paired.low) / 2
        is_half = there > chance and loss > (there - chance) / 2
        return is_half or loss > max(margin, half_width)

    def list_accuracies(name: str) -> list[float]:
        split = row.stages.get(f"accuracy_{name}")
        return row.accuracy[name].per_seed if split is None else [value for of in split.values for value in of]

    def find_collapsed(name: str) -> list[float]:
        """Return the accuracies under the seeds, or of the unlearnings, with a collapse."""
        accuracy = list_accuracies(name)
        found = [value for value in accuracy if is_chance(name, value)]
        if reference is None or name not in reference.accuracy:
            return found
        there = reference.accuracy[name].mean
        error = sqrt(max(2 * there * (1 - there), 0.01) / max(1, sizes.get(name, 0)))
        largest = max(SEED_MARGIN, margin, ERRORS * error)
        return [value for value in accuracy if value in found or there - value > largest]

    def list_shares(row: Row, names: Sequence[str], of: str = "") -> str:
        return " and ".join(f"{100 * row.accuracy[name].mean:.1f} %{of and f' of {TITLES[name]}'}" for name in names)

    if is_constant:
        return Judgement("constant", f"{row.title} gives every example the same output. {APPLIES} {CAUSES}")
    if names := [name for name in present if is_chance(name, row.accuracy[name].mean)]:
        return Judgement(
            "at chance",
            f"{row.title} classifies {list_shares(row, names, 'set')} examples correctly, which is no better than "
            f"chance ({100 * chance:.1f} %). {APPLIES} {CAUSES}",
        )
    if names := [name for name in present if is_lost(name)]:
        assert reference is not None
        return Judgement(
            "utility lost",
            f"{row.title} has lost its utility: it classifies {list_shares(row, names, 'set')} examples correctly, "
            f"{reference.title} {list_shares(reference, names)}. {APPLIES}",
        )
    for name in present:
        if collapsed := find_collapsed(name):
            where = f"{len(collapsed)} of {len(list_accuracies(name))} {kind}"
            return Judgement(
                "utility lost",
                f"{row.title} collapsed under {where}: it classifies {100 * min(collapsed):.1f} % of {TITLES[name]} "
                f"examples correctly there, and {100 * row.accuracy[name].mean:.1f} % on average. {APPLIES}",
            )
    if num_diverged:
        finished = sum(map(len, row.stages["auc"].values)) if "auc" in row.stages else len(row.auc.per_seed)
        where = f"{num_diverged} of {num_diverged + finished} {kind}"
        return Judgement("utility lost", f"{row.title} diverged under {where}. {APPLIES}")
    return Judgement("", "")


def judge_reference(retrained: Row, original: Row, *, num_classes: int | None) -> Judgement:
    """Judge Retrain by the original: a training that went wrong is no reference for the utility of other models.

    Retrain learns from fewer examples, so no margin holds. It is broken if less than half of what the original has
    above chance is left on a set, under any seed.

    Args:
        retrained: row of Retrain.
        original: row of the original.
        num_classes: classes of the data; without it, chance is 0.
    """
    chance = 0.0 if num_classes is None else 1 / num_classes
    wanted = SETS_OF_CLASSES if has_classes(retrained.accuracy) else SETS
    for name in wanted:
        if name not in retrained.accuracy or name not in original.accuracy:
            continue
        least, there = min(retrained.accuracy[name].per_seed), original.accuracy[name].mean
        if there > chance and least - chance < (there - chance) / 2:
            return Judgement(
                "utility lost",
                f"{retrained.title} is no reference: under one seed it classifies {100 * least:.1f} % of "
                f"{TITLES[name]} examples correctly, {original.title} {100 * there:.1f} % on average. The utility of "
                f"the other models is judged by {original.title}.",
            )
    return Judgement("", "")


def describe_class_accuracy(row: Row, reference: Row | None, margin: float) -> str:
    """State by how much a model is right on never-seen examples of the forgotten classes where Retrain is not.

    Returns:
        A sentence, or an empty text if the difference is within the margin or the half width of its interval, or if no
        classes are forgotten.
    """
    if reference is None or not has_classes(row.accuracy) or FORGOTTEN not in row.loss:
        return ""
    gain = row.loss[FORGOTTEN]
    if abs(gain.mean) <= max(margin, (gain.high - gain.low) / 2):
        return ""
    what = "still knows" if gain.mean < 0 else "suppresses"
    own, other = (f"{100 * one.accuracy[FORGOTTEN].mean:.1f} %" for one in (row, reference))
    return (
        f"{row.title} {what} the forgotten classes: it classifies {own} of their never-seen examples correctly, "
        f"{reference.title} {other}."
    )


def find_constant(evidence: Sequence[Evidence], num_classes: int | None) -> set[str]:
    """Find the methods whose model gives every example the same output under some seed.

    The log-odds of such a model depend on the true class alone, so they take no more values than there are classes.
    """
    found: set[str] = set()
    for item in evidence:
        values = np.sort(np.asarray(item.log_odds[:, 0], dtype=np.float64))
        steps = np.diff(values) > 1e-6 * (1 + np.abs(values[1:]))
        num_values = 1 + int(steps.sum())
        if num_classes is not None and num_values <= min(num_classes, len(values) // 2):
            found.add(item.method)
    return found


def merge_caveats(rows: Sequence[Row]) -> list[str]:
    """Return the caveats of the rows, with what they share stated once.

    Returns:
        One text for each kind of judgement, if there are any.
    """
    texts: list[str] = []
    for utility, causes in (("constant", f" {CAUSES}"), ("at chance", f" {CAUSES}"), ("utility lost", "")):
        caveats = [row.caveat for row in rows if row.utility == utility]
        if len(caveats) > 1:
            found = " ".join(caveat.partition(f" {APPLIES}")[0] for caveat in caveats)
            caveats = [f"{found} Their verdicts do not apply to working models.{causes}"]
        texts += caveats
    return texts
