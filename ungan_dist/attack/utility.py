"""Whether a model still works: an attack finds no trace in a model that has forgotten everything.

A model has lost its utility if its accuracy on retain or test examples is more than ``MARGIN`` below Retrain's, or if
less than half of Retrain's accuracy above chance is left. Without Retrain, the original takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt
from typing import Literal

from ungan_dist.attack.evidence import Row

MARGIN = 0.10
"""Loss of accuracy against Retrain, as a share, that a useful model may have."""
APPLIES = "Its verdict does not apply to a working model."
CAUSES = (
    "Likely causes are another class order, another normalisation of the pixels, or a model that unlearning destroyed."
)
"""Of accuracies at chance."""
SETS = ("retain", "test")
"""Sets on which an unlearned model should be as accurate as Retrain."""


def judge_utility(
    accuracy: Mapping[str, float],
    reference: Mapping[str, float] | None,
    *,
    num_classes: int | None,
    sizes: Mapping[str, int],
) -> tuple[Literal["", "utility lost", "at chance"], list[str]]:
    """Judge a model by its accuracies.

    Args:
        accuracy: Share of correct answers, by set.
        reference: The same of Retrain, or of the original without Retrain; ``None`` for these models themselves.
        num_classes: Classes of the data; without it, no accuracy counts as chance.
        sizes: Number of examples of each set.

    Returns:
        The judgement, and the sets on which it holds.

    Examples:
        >>> judge_utility({"test": 0.44}, {"test": 0.58}, num_classes=10, sizes={"test": 1000})
        ('utility lost', ['test'])
        >>> judge_utility({"test": 0.11}, {"test": 0.58}, num_classes=10, sizes={"test": 1000})
        ('at chance', ['test'])
    """
    chance = 0.0 if num_classes is None else 1 / num_classes

    def is_chance(name: str) -> bool:
        error = sqrt(chance * (1 - chance) / max(1, sizes.get(name, 0)))
        return num_classes is not None and accuracy[name] <= chance + 2 * error

    def is_lost(name: str) -> bool:
        if reference is None or name not in reference:
            return False
        loss = reference[name] - accuracy[name]
        return loss > MARGIN or (reference[name] > chance and loss > (reference[name] - chance) / 2)

    present = [name for name in SETS if name in accuracy]
    if found := [name for name in present if is_chance(name)]:
        return "at chance", found
    if found := [name for name in present if is_lost(name)]:
        return "utility lost", found
    return "", []


def add_caveats(rows: Sequence[Row], *, num_classes: int | None, sizes: Mapping[str, int]) -> list[Row]:
    """Return the rows, each with a caveat if its model does not work."""
    means = {row.method: {name: value.mean for name, value in row.accuracy.items()} for row in rows}
    first = next((method for method in ("retrain", "original") if method in means), None)
    judged: list[Row] = []
    for row in rows:
        reference = means.get(first or "") if row.method not in ("retrain", "original") else None
        utility, names = judge_utility(means[row.method], reference, num_classes=num_classes, sizes=sizes)
        if not utility:
            judged.append(row)
            continue
        found = " and ".join(f"{100 * means[row.method][name]:.1f} % of {name}" for name in names)
        if utility == "at chance":
            assert num_classes is not None
            caveat = (
                f"{row.title} classifies {found} examples correctly, which is no better than chance "
                f"({100 / num_classes:.1f} %). {APPLIES} {CAUSES}"
            )
        else:
            assert reference is not None
            there = " and ".join(f"{100 * reference[name]:.1f} %" for name in names)
            title = next(one.title for one in rows if one.method == first)
            caveat = (
                f"{row.title} has lost its utility: it classifies {found} examples correctly, {title} {there}. "
                f"{APPLIES}"
            )
        judged.append(replace(row, utility=utility, caveat=caveat))
    return judged


def merge_caveats(rows: Sequence[Row]) -> list[str]:
    """Return the caveats of the rows, with what they share stated once.

    Returns:
        One text for the models at chance and one for those that have lost their utility, if there are any.
    """
    texts: list[str] = []
    for utility, causes in (("at chance", f" {CAUSES}"), ("utility lost", "")):
        caveats = [row.caveat for row in rows if row.utility == utility]
        if len(caveats) > 1:
            found = " ".join(caveat.partition(f" {APPLIES}")[0] for caveat in caveats)
            caveats = [f"{found} Their verdicts do not apply to working models.{causes}"]
        texts += caveats
    return texts
