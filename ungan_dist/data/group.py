"""Groups that are forgotten whole, such as a class, and the never-seen examples to compare them with.

A model that never saw a class treats all of its examples alike. So every training example of the group is forgotten,
and the attacks compare it with the examples of the same group that were never trained on. Which examples of the pool
are in D is drawn at random. Of Retrain, which has seen none of them, an AUC of .5 is thus expected by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from ungan_dist.config.forget_rule import ForgetRule
from ungan_dist.data.sources.source import Source

MIN_COMPARED = 12
"""Fewest forget examples of a group, and fewest never-seen ones to compare them with."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Examples that are forgotten whole."""

    indices: Int[np.ndarray, " group"]
    """All examples of the group in the data, in increasing order."""
    title: str
    """Name in reports, such as "class 'cat'"."""
    has_classes: bool = True
    """Whether it consists of classes, so that accuracies are reported by class."""
    is_drawn: bool = True
    """Whether its examples in D are drawn at random; a list names them."""


def find_group(rule: ForgetRule, source: Source) -> Group | None:
    """Find the classes or the subclass that a rule forgets; None if it forgets none.

    Raises:
        ValueError: There is no such class, or too few other classes are left.
    """
    if rule.kind == "subclass":
        return _make_subclass_group(rule.names[0], source)
    if not rule.is_class:
        return None
    _refuse_several(rule, source.class_names)
    labels = [_find(name, source.class_names, "class") for name in rule.names]
    if len(set(labels)) != len(labels):
        raise ValueError(f"split.forget names class {source.class_names[max(labels, key=labels.count)]!r} twice")
    return make_class_group(labels, source)


def make_class_group(labels: Sequence[int], source: Source) -> Group:
    """Make the group of some classes.

    Raises:
        ValueError: Fewer than two other classes are left.
    """
    num_left = len(np.setdiff1d(np.unique(source.labels), labels))
    if num_left < 2:
        raise ValueError(
            f"{num_left} class is left beside the {len(labels)} to forget, and a classifier needs at least 2: forget "
            f"fewer classes"
        )
    names = [repr(source.class_names[label]) for label in sorted(labels)]
    title = f"class {names[0]}" if len(names) == 1 else f"classes {', '.join(names[:-1])} and {names[-1]}"
    return Group(indices=np.flatnonzero(np.isin(source.labels, labels)), title=title)


def _make_subclass_group(name: str, source: Source) -> Group:
    if source.sublabels is None:
        raise ValueError(
            f"{source.title} has no subclasses: --source.kind cifar20 has the 20 coarse classes of CIFAR-100, and its "
            f"100 fine ones as subclasses"
        )
    label = _find(name, source.subclass_names, "subclass")
    indices = np.flatnonzero(source.sublabels == label)
    return Group(indices=indices, title=f"subclass {source.subclass_names[label]!r}")


def make_extreme_group(
    rule: ForgetRule, scores: Float64[np.ndarray, " examples"], pool: Int[np.ndarray, " pool"], num_forget: int
) -> Group:
    """Make the group of the examples of the pool that shadow models memorise most or least.

    It has twice as many examples as are to be forgotten, because half of it is in D. The other half is as hard.

    Args:
        rule: ``hardest`` or ``easiest``.
        scores: memorisation of each example of the data; NaN where it is not known.
        pool: indices of the pool.
        num_forget: number of examples to forget.

    Raises:
        ValueError: an example of the pool has no score.
    """
    if np.isnan(scores[pool]).any():
        raise ValueError(
            f"given.scores has no score of {int(np.isnan(scores[pool]).sum()):,} of the {len(pool):,} examples of the "
            f"pool: name records of a run with the same data, split.train, split.unseen and split.seed"
        )
    sign = -1 if rule.kind == "hardest" else 1
    chosen = pool[np.argsort(sign * scores[pool], kind="stable")[: 2 * num_forget]]
    title = f"the {len(chosen):,} {rule.kind} examples of the pool"
    return Group(indices=np.sort(chosen), title=title, has_classes=False)


def check_group(group: Group, *, num_forget: int, num_non_members: int, remedy: str) -> None:
    """Refuse a group of which too few examples can be compared.

    Raises:
        ValueError: There are too few forget examples, or too few that were never seen.
    """
    if group.has_classes and min(num_forget, num_non_members) < MIN_COMPARED:
        raise ValueError(
            f"of {group.title}, {num_forget:,} examples are trained on and {num_non_members:,} are non-members. The "
            f"audit compares the two, and needs at least {MIN_COMPARED} of each: {remedy}"
        )


def describe_group(group: Group, *, num_forget: int, num_non_members: int) -> str:
    """State what is forgotten, and what it is compared with."""
    if not group.has_classes:
        return (
            f"Forgotten are those of {group.title} that are in D, by the shadow models of an earlier run: "
            f"{num_forget:,}. The audit compares them with the other {num_non_members:,}, which are as hard."
        )
    return (
        f"Forgotten is {group.title}: all {num_forget:,} training examples of it, which the audit compares with "
        f"{num_non_members:,} never-seen ones of the same. Retrain has seen none of them."
    )


def _refuse_several(rule: ForgetRule, known: Sequence[str]) -> None:
    """Refuse one name that is none but holds several names."""
    for name in rule.names:
        if "," in name and name not in known:
            several = ",".join(part.strip() for part in name.split(","))
            raise ValueError(f"the data has no class {name!r}: for several classes write classes={several}")


def _find(name: str, known: Sequence[str], what: str) -> int:
    """Return the number of a class, given by its name or its number. Where names are numbers, a number is a name."""
    if name in known:
        return list(known).index(name)
    if name.isdecimal() and int(name) < len(known):
        return int(name)
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    raise ValueError(f"the data has no {what} {name!r}: name one of {shown}, or give a number of 0 … {len(known) - 1}")
